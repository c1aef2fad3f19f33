"""What a network is shown in training, and who draws it."""

from abc import ABC, abstractmethod
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


class Sampler(ABC):
    """Source of random samples."""

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> Sample:
        """Draw one sample."""

    def batch(self, rng: np.random.Generator, count: int) -> Sample:
        """Draw some samples; their tensors get a leading batch axis."""
        samples = [self.sample(rng) for _ in range(count)]
        return Sample(
            image=torch.stack([sample.image for sample in samples]),
            labels=torch.stack([sample.labels for sample in samples]),
            known=torch.stack([sample.known for sample in samples]),
        )
