"""What a network is shown in training, and who draws it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from inference.labels import Label
from inference.view import apply_view
from training.config import Experiment
from training.dataset import LEVELS, Case
from training.grids import WINDOW
from training.masses import Mass, Scene, paint_cyst, paint_lesion, paint_look_alike


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """What the network sees and what it should say."""

    image: torch.Tensor
    """(channels, ..., rows, columns) float32, 0 to 1."""
    labels: torch.Tensor
    """(..., rows, columns) int64."""
    known: torch.Tensor
    """(..., rows, columns) bool, whether liver and tumor are told apart."""

    def to(self, device: str) -> "Sample":
        """Give the sample in the memory of a device."""
        return Sample(
            image=self.image.to(device), labels=self.labels.to(device), known=self.known.to(device)
        )


def stack_samples(samples: Sequence[Sample]) -> Sample:
    """Make one batch of samples; its tensors have a leading batch axis."""
    return Sample(
        image=torch.stack([sample.image for sample in samples]),
        labels=torch.stack([sample.labels for sample in samples]),
        known=torch.stack([sample.known for sample in samples]),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Canvas:
    """A part of a scan as it is shown once: with what was painted into it."""

    scene: Scene
    labels: NDArray[np.uint8]
    """(slices, rows, columns)."""
    known: NDArray[np.bool_]
    """Same shape, whether liver and tumor are told apart."""

    def mark(self, mass: Mass | None, rim_mm: float, *, tumor: bool) -> None:
        """Let the network be judged in and around what was painted into the liver."""
        if mass is None:
            return
        if tumor:
            lesion = mass.inside & self.scene.organ[mass.window]
            self.labels[mass.window][lesion] = Label.TUMOR
        self.known[mass.window] |= mass.within(rim_mm)


class Sampler(ABC):
    """Source of random samples."""

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> Sample:
        """Draw one sample."""


_Prepared = TypeVar("_Prepared")


class CaseSampler(Sampler, Generic[_Prepared]):
    """Draws samples from cases.

    Parameters
    ----------
    experiment:
        What to draw.
    real, synthetic:
        Cases; synthetic ones are drawn with the share that the experiment says.
    """

    def __init__(
        self, experiment: Experiment, real: Sequence[Case], synthetic: Sequence[Case]
    ) -> None:
        weight = experiment.data.annotated_weight
        self._experiment = experiment
        self._real = [
            prepared
            for case in real
            for prepared in [self._prepare(case)]
            * (weight if case.tumors_known and (case.labels == Label.TUMOR).any() else 1)
        ]
        self._synthetic = [self._prepare(case) for case in synthetic]

    @abstractmethod
    def _prepare(self, case: Case) -> _Prepared:
        """Give a case with what drawing from it needs."""

    def _choose(self, rng: np.random.Generator) -> _Prepared:
        """Draw a case."""
        synthetic = self._synthetic and rng.random() < self._experiment.phantoms.share
        cases = self._synthetic if synthetic else self._real
        return cases[rng.integers(len(cases))]

    def _show(self, patch: torch.Tensor) -> torch.Tensor:
        """Show a patch (..., rows, columns) as in inference, with a leading axis of channels."""
        return torch.from_numpy(apply_view(patch.numpy(), WINDOW, self._experiment.data.view))

    def _paint(
        self,
        rng: np.random.Generator,
        case: Case,
        levels: NDArray[np.uint8],
        labels: NDArray[np.uint8],
        spacing_mm: tuple[float, float, float],
    ) -> Canvas:
        """Paint masses into a part of a case, in some draws, and none into a phantom."""
        config = self._experiment.masses
        scene = Scene(
            image=levels.astype(np.float32) / np.float32(LEVELS),
            organ=labels > 0,
            spacing_mm=spacing_mm,
            liver_level=case.liver_level,
        )
        canvas = Canvas(
            scene=scene, labels=labels.copy(), known=np.full(labels.shape, case.tumors_known)
        )
        if case.synthetic:
            return canvas
        rim_mm = config.known_rim_mm
        if rng.random() < config.look_alike_share:
            for _ in range(rng.integers(1, config.count + 1)):
                paint_look_alike(rng, scene, config.look_alike_radius_mm)
        if rng.random() < config.cyst_share:
            cyst = paint_cyst(rng, scene, config.lesion_radius_mm, rim_mm)
            canvas.mark(cyst, rim_mm, tumor=False)
        if rng.random() < config.lesion_share:
            for _ in range(rng.integers(1, config.count + 1)):
                lesion = paint_lesion(rng, scene, config.lesion_radius_mm, rim_mm)
                canvas.mark(lesion, rim_mm, tumor=True)
        return canvas
