"""What a network is shown in training, and who draws it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch


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


class Sampler(ABC):
    """Source of random samples."""

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> Sample:
        """Draw one sample."""
