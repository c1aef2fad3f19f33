"""One training run: batches in, checkpoints and a log out.

A run stops after its steps, or when its time is up. Started again with the same folder, it goes on
from its last checkpoint.
"""

import csv
import ctypes
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from training.architectures import build_network
from training.config import Experiment
from training.errors import ExperimentError
from training.loss import batch_dice, segmentation_loss
from training.networks import Network
from training.samples import Sample, Sampler, stack_samples

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
EXPERIMENT = "experiment.json"
LOSSES, VALIDATION = "losses.csv", "validation.csv"
_CHECKPOINT_S = 120.0
_LOG_STEPS = 50
_VALIDATIONS = 12
_VALIDATION_SAMPLES = 24
_WARM_UP_STEPS = 100
_MAX_GRADIENT = 5.0
_SMOOTHING = 0.98
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Parameters of glibc's mallopt(3)."""


def keep_freed_memory() -> None:
    """Let the C library keep what is freed, for the next step takes it again.

    By default glibc gives large blocks back to the kernel, and a quarter of the time of a step is
    spent on getting pages anew. Elsewhere than on Linux nothing is done.
    """
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "mallopt"):
            library.mallopt(_M_MMAP_MAX, 0)
            library.mallopt(_M_TRIM_THRESHOLD, -1)


def load_network(folder: Path) -> Network:
    """Give the network of the last checkpoint of a run, ready for inference on the CPU.

    Raises
    ------
    ExperimentError
        The folder holds no run.
    """
    network = build_network(read_experiment(folder))
    network.load_state_dict(_read_checkpoint(folder)["network"])
    network.eval()
    return network


def read_experiment(folder: Path) -> Experiment:
    """Give what a run was told to do.

    Raises
    ------
    ExperimentError
        The folder holds no run.
    """
    try:
        return Experiment.model_validate_json((folder / EXPERIMENT).read_bytes())
    except (OSError, ValueError) as error:
        raise ExperimentError(f"{folder} holds no training run: {error}") from error


def _read_checkpoint(folder: Path) -> dict[str, Any]:
    path = folder / CHECKPOINT
    if not path.exists():
        raise ExperimentError(f"{path} is missing: train this stage first")
    return dict(torch.load(path, map_location="cpu", weights_only=True))


def share_done(experiment: Experiment, step: int, elapsed_s: float) -> float:
    """Give how much of a run is done: by its steps, or by its time where that is nearer its end."""
    config = experiment.optimization
    by_time = 0.0 if config.minutes is None else elapsed_s / 60 / config.minutes
    return min(1.0, max(step / config.steps, by_time))


def learning_rate(experiment: Experiment, step: int, elapsed_s: float) -> float:
    """Give the rate of a step: a short linear rise, then half a cosine over the run."""
    progress = share_done(experiment, step, elapsed_s)
    config, cosine = experiment.optimization, 0.5 * (1 + math.cos(math.pi * progress))
    decay = config.final_share + (1 - config.final_share) * cosine
    return config.learning_rate * min(1.0, (step + 1) / _WARM_UP_STEPS) * decay


class _Stream(IterableDataset[Sample]):  # type: ignore[misc]  # torch is not followed by mypy
    """An endless row of samples; each loader process draws its own."""

    def __init__(self, sampler: Sampler, seed: tuple[int, int]) -> None:
        self._sampler = sampler
        self._seed = seed

    def __iter__(self) -> Iterator[Sample]:
        worker = get_worker_info()
        rng = np.random.default_rng((*self._seed, worker.id if worker else 0))
        while True:
            yield self._sampler.sample(rng)


class Trainer:
    """One training run with its state: weights, optimizer, step, seconds spent.

    Parameters
    ----------
    experiment:
        What to train.
    sampler:
        Source of samples.
    folder:
        Where checkpoint and logs lie; an existing checkpoint is read.
    warm_start:
        Run whose weights to begin with, as far as their shapes are the same.
    validation:
        Source of samples that are never trained on; None for no validation.
    loaders:
        Processes that draw samples; 0 draws them between the steps.

    Raises
    ------
    ExperimentError
        The folder holds a run of another network, or ``warm_start`` holds none.
    """

    def __init__(
        self,
        experiment: Experiment,
        sampler: Sampler,
        folder: Path,
        *,
        warm_start: Path | None = None,
        validation: Sampler | None = None,
        loaders: int = 0,
    ) -> None:
        config = experiment.optimization
        keep_freed_memory()
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.seed)
        self.step = 0
        self.elapsed_s = 0.0
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self._experiment = experiment
        self._folder = folder
        self._network = build_network(experiment).to(self.device)
        self._optimizer = torch.optim.AdamW(
            self._network.parameters(), config.learning_rate, weight_decay=config.weight_decay
        )
        if (folder / CHECKPOINT).exists():
            self._resume()
        else:
            self._begin(warm_start)
        (folder / EXPERIMENT).write_text(experiment.model_dump_json(indent=2), encoding="utf-8")
        self._batches = iter(
            DataLoader(
                _Stream(sampler, (config.seed, self.step)),
                batch_size=config.batch,
                num_workers=loaders,
                collate_fn=stack_samples,
            )
        )
        self._validation = _fixed_batches(validation, config.batch)

    def run(self, progress: Callable[[float, Mapping[str, float]], None]) -> None:
        """Train to the end.

        Parameters
        ----------
        progress:
            Told after each step the share that is done and the smoothed losses by name.
        """
        started, before_s = time.monotonic(), self.elapsed_s
        saved_s, validated = before_s, self.share
        smooth: dict[str, float] = {}
        while self.share < 1:
            losses = self.train_step()
            self.elapsed_s = before_s + time.monotonic() - started
            smooth = _smooth(smooth, losses)
            progress(self.share, smooth)
            if self.step % _LOG_STEPS == 0:
                self._append(LOSSES, smooth)
                minutes = self.elapsed_s / 60
                words = _words(smooth)
                logger.info("step %d, %.1f minutes: %s", self.step, minutes, words)
            if self.share - validated > 1 / _VALIDATIONS:
                self.validate()
                validated = self.share
            if self.elapsed_s - saved_s > _CHECKPOINT_S:
                self.save()
                saved_s = self.elapsed_s
        self.validate()
        self.save()

    @property
    def share(self) -> float:
        """How much of the run is done."""
        return share_done(self._experiment, self.step, self.elapsed_s)

    def train_step(self) -> dict[str, float]:
        """Do one step and give its losses by name.

        Raises
        ------
        ExperimentError
            The training diverges; the weights are those of the step before.
        """
        rate = learning_rate(self._experiment, self.step, self.elapsed_s)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        batch = next(self._batches).to(self.device)
        terms = self._experiment.optimization.loss
        losses = segmentation_loss(terms, self._predict(batch), batch.labels, batch.known)
        self._optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        size = torch.nn.utils.clip_grad_norm_(self._network.parameters(), _MAX_GRADIENT)
        if not torch.isfinite(size):
            raise ExperimentError(
                f"at step {self.step} the gradient is no finite number; set bf16 = false, or a "
                "lower learning_rate, and begin in a new folder"
            )
        self._optimizer.step()
        self.step += 1
        return {name: loss.item() for name, loss in losses.items()}

    def validate(self) -> dict[str, float]:
        """Give the Dice on the samples that are kept apart, the same ones every time."""
        if not self._validation:
            return {}
        self._network.eval()
        with torch.inference_mode():
            found = [
                self._predict(batch.to(self.device)).argmax(dim=1).cpu()
                for batch in self._validation
            ]
        self._network.train()
        score = batch_dice(found, self._validation)
        self._append(VALIDATION, score)
        logger.info("step %d, Dice of what is kept apart: %s", self.step, _words(score))
        return score

    def save(self) -> None:
        """Write the checkpoint; a crash while writing leaves the former one whole."""
        state = {
            "network": self._network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "step": self.step,
            "elapsed_s": self.elapsed_s,
        }
        temporary = self._folder / f"{CHECKPOINT}.part"
        torch.save(state, temporary)
        temporary.replace(self._folder / CHECKPOINT)

    def _resume(self) -> None:
        state = torch.load(self._folder / CHECKPOINT, map_location=self.device, weights_only=True)
        if read_experiment(self._folder).data.view != self._experiment.data.view:
            raise ExperimentError(
                f"the network in {self._folder} was shown other gray curves; go on with the data "
                "and the recipe that it began with, or choose another folder"
            )
        try:
            self._network.load_state_dict(state["network"])
        except RuntimeError as error:
            raise ExperimentError(
                f"{self._folder} holds a run of another network; choose another folder"
            ) from error
        self._optimizer.load_state_dict(state["optimizer"])
        self.step, self.elapsed_s = state["step"], state["elapsed_s"]
        logger.info("resumed at step %d, %.1f minutes", self.step, self.elapsed_s / 60)

    def _begin(self, run: Path | None) -> None:
        config = self._experiment.network
        if run is not None:
            self._begin_with(run)
        elif config.architecture == "unet-resnet34" and config.encoder_weights is not None:
            self._network.load_encoder(config.encoder_weights)

    def _begin_with(self, run: Path) -> None:
        own = self._network.state_dict()
        given = _read_checkpoint(run)["network"]
        fitting = {
            name: values
            for name, values in given.items()
            if name in own and own[name].shape == values.shape
        }
        self._network.load_state_dict({**own, **fitting})
        logger.info("begins with %d of %d tensors of %s", len(fitting), len(own), run)

    def _predict(self, batch: Sample) -> torch.Tensor:
        image = batch.image.contiguous(memory_format=self._network.memory_format)
        enabled = self._experiment.optimization.bf16
        with torch.autocast(self.device, torch.bfloat16, enabled=enabled):
            logits = self._network(image)
        return logits.float()

    def _append(self, name: str, values: Mapping[str, float]) -> None:
        """Add a row to a log."""
        path = self._folder / name
        is_new = not path.exists()
        with path.open("a", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            if is_new:
                table.writerow(["step", "minutes", *values])
            rounded = (f"{value:.5f}" for value in values.values())
            table.writerow([self.step, f"{self.elapsed_s / 60:.2f}", *rounded])


def _fixed_batches(sampler: Sampler | None, batch: int) -> list[Sample]:
    if sampler is None:
        return []
    rng = np.random.default_rng(0)
    samples = [sampler.sample(rng) for _ in range(_VALIDATION_SAMPLES)]
    return [stack_samples(samples[at : at + batch]) for at in range(0, len(samples), batch)]


def _smooth(before: Mapping[str, float], losses: Mapping[str, float]) -> dict[str, float]:
    return {
        name: _SMOOTHING * before.get(name, value) + (1 - _SMOOTHING) * value
        for name, value in losses.items()
    }


def _words(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in values.items())
