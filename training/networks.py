"""The network: a plain U-Net over a stack of neighboring slices (2.5D)."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn


def _block(channels_in: int, channels_out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (channels_in, channels_out):
        layers += [
            nn.Conv2d(channels, channels_out, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class UNet(nn.Module):  # type: ignore[misc]  # torch is not followed by mypy
    """U-Net of Ronneberger et al. (2015) with batch normalization and same-size output.

    Parameters
    ----------
    slices:
        Neighboring slices in the input, the middle one is labeled.
    classes:
        Output channels.
    channels:
        Feature channels of each level, the finest first.
    """

    def __init__(self, slices: int, classes: int, channels: Sequence[int]) -> None:
        super().__init__()
        inputs = [slices, *channels[:-1]]
        self.encoder = nn.ModuleList(_block(a, b) for a, b in zip(inputs, channels, strict=True))
        self.pool = nn.MaxPool2d(2)
        pairs = list(pairwise(channels))[::-1]
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(deep, shallow, kernel_size=2, stride=2) for shallow, deep in pairs
        )
        self.decoder = nn.ModuleList(_block(2 * shallow, shallow) for shallow, _ in pairs)
        self.head = nn.Conv2d(channels[0], classes, kernel_size=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute logits.

        Parameters
        ----------
        image:
            (batch, slices, rows, columns), 0 to 1; rows and columns are multiples of
            2 ** (levels - 1).

        Returns
        -------
        torch.Tensor
            (batch, classes, rows, columns).
        """
        skips: list[torch.Tensor] = []
        for level, block in enumerate(self.encoder):
            image = block(image if level == 0 else self.pool(image))
            skips.append(image)
        skips.pop()
        for up, block in zip(self.up, self.decoder, strict=True):
            image = block(torch.cat([up(image), skips.pop()], dim=1))
        return self.head(image)
