"""Plain U-Nets, over a slice, a stack of neighboring slices (2.5D) or a volume (3D)."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

_CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
_NORMALIZATION = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_POOLING = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
_UPSAMPLING = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_MEMORY_FORMAT = {2: torch.channels_last, 3: torch.channels_last_3d}


def _block(dimensions: int, channels_in: int, channels_out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (channels_in, channels_out):
        layers += [
            _CONVOLUTION[dimensions](channels, channels_out, 3, padding=1, bias=False),
            _NORMALIZATION[dimensions](channels_out),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class Network(nn.Module):  # type: ignore[misc]  # torch is not followed by mypy
    """A network that gives the logits of each element of a slice or a volume.

    Parameters
    ----------
    inputs:
        Input channels.
    dimensions:
        2 for slices, 3 for volumes.
    """

    def __init__(self, inputs: int, dimensions: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.dimensions = dimensions
        self.memory_format = _MEMORY_FORMAT[dimensions]


class UNet(Network):
    """U-Net of Ronneberger et al. (2015) with batch normalization and same-size output.

    Parameters
    ----------
    inputs:
        Input channels, as the neighboring slices of a 2.5D network, whose middle one is labeled.
    classes:
        Output channels.
    channels:
        Feature channels of each level, the finest first.
    dimensions:
        2 for slices, 3 for volumes.
    stride:
        With 2 the finest level works on blocks of 2 elements an axis: a strided convolution takes
        them in, and a transposed one gives the logits of each element. Most of the time goes into
        the finest level, so that the network is several times faster.
    """

    def __init__(
        self,
        inputs: int,
        classes: int,
        channels: Sequence[int],
        dimensions: int = 2,
        stride: int = 1,
    ) -> None:
        super().__init__(inputs, dimensions)
        finest = channels[0]
        before = [inputs if stride == 1 else finest, *channels[:-1]]
        blocks = {"kernel_size": stride, "stride": stride}
        self.stem = (
            nn.Identity() if stride == 1 else _CONVOLUTION[dimensions](inputs, finest, **blocks)
        )
        self.encoder = nn.ModuleList(
            _block(dimensions, a, b) for a, b in zip(before, channels, strict=True)
        )
        self.pool = _POOLING[dimensions](2)
        pairs = list(pairwise(channels))[::-1]
        self.up = nn.ModuleList(
            _UPSAMPLING[dimensions](deep, shallow, kernel_size=2, stride=2)
            for shallow, deep in pairs
        )
        self.decoder = nn.ModuleList(
            _block(dimensions, 2 * shallow, shallow) for shallow, _ in pairs
        )
        head = _CONVOLUTION if stride == 1 else _UPSAMPLING
        self.head = head[dimensions](finest, classes, **blocks)
        self.to(memory_format=self.memory_format)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute logits.

        Parameters
        ----------
        image:
            (batch, inputs, ..., rows, columns), 0 to 1; the spatial axes, two or three, have
            multiples of ``stride * 2 ** (levels - 1)`` elements.

        Returns
        -------
        torch.Tensor
            (batch, classes, ..., rows, columns).
        """
        skips: list[torch.Tensor] = []
        image = self.stem(image)
        for level, block in enumerate(self.encoder):
            image = block(image if level == 0 else self.pool(image))
            skips.append(image)
        skips.pop()
        for up, block in zip(self.up, self.decoder, strict=True):
            image = block(torch.cat([up(image), skips.pop()], dim=1))
        return self.head(image)
