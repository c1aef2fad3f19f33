"""Networks whose parts are MONAI's."""

import logging
import pickle
from pathlib import Path

import torch
from monai.networks.nets import vnet
from monai.networks.nets.flexible_unet import SegmentationHead, UNetDecoder
from monai.networks.nets.resnet import ResNet

from training.errors import ExperimentError
from training.networks import Network

logger = logging.getLogger(__name__)

_RESNET34_BLOCKS = (3, 4, 6, 3)
_RESNET34_CHANNELS = (64, 128, 256, 512)
_FIRST_LAYER = "conv1.weight"
_DECODER_CHANNELS = (256, 128, 64, 32, 16)
_GRAY_MEAN, _GRAY_SD = 0.449, 0.226
"""Of the photographs of ImageNet, over their colors: what published encoders expect to see."""


class ResNetUNet(Network):
    """U-Net (Ronneberger et al., 2015) whose encoder is ResNet-34 (He et al., 2016).

    The encoder is built, and its weights are named, as in torchvision; MONAI's own ResNet-34 has
    shortcuts without weights, into which those published for ImageNet do not fit.

    Parameters
    ----------
    inputs:
        Input channels.
    classes:
        Output channels.
    """

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__(inputs, dimensions=2)
        self.encoder = ResNet(
            "basic",
            list(_RESNET34_BLOCKS),
            list(_RESNET34_CHANNELS),
            spatial_dims=2,
            n_input_channels=inputs,
            conv1_t_stride=2,
            feed_forward=False,
            bias_downsample=False,
        )
        self.decoder = UNetDecoder(
            spatial_dims=2,
            encoder_channels=(inputs, _RESNET34_CHANNELS[0], *_RESNET34_CHANNELS),
            decoder_channels=_DECODER_CHANNELS,
            act="relu",
            norm="batch",
            dropout=0.0,
            bias=False,
            upsample="nontrainable",
            pre_conv="default",
            interp_mode="nearest",
            align_corners=None,
            is_pad=False,
        )
        self.head = SegmentationHead(2, _DECODER_CHANNELS[-1], classes)
        self.to(memory_format=self.memory_format)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute logits.

        Parameters
        ----------
        image:
            (batch, inputs, rows, columns), 0 to 1; rows and columns are multiples of 32.

        Returns
        -------
        torch.Tensor
            (batch, classes, rows, columns).
        """
        encoder = self.encoder
        normal = (image - _GRAY_MEAN) / _GRAY_SD
        features = [encoder.act(encoder.bn1(encoder.conv1(normal)))]
        deeper = encoder.maxpool(features[0])
        for layer in (encoder.layer1, encoder.layer2, encoder.layer3, encoder.layer4):
            deeper = layer(deeper)
            features.append(deeper)
        return self.head(self.decoder(features))

    def load_encoder(self, path: Path) -> None:
        """Begin with weights of an encoder that others trained.

        Parameters
        ----------
        path:
            The weights by name (a state dict), as torchvision publishes them. Weights of the
            first layer that are made for another number of channels are left out.

        Raises
        ------
        ExperimentError
            The file cannot be read, or holds no ResNet-34.
        """
        own = self.encoder.state_dict()
        given = _read_weights(path)
        fitting = {
            name: given[name]
            for name, values in own.items()
            if name in given and given[name].shape == values.shape
        }
        # Old files do not count the batches, which nothing depends on.
        left = [name for name in own if name not in fitting and "num_batches" not in name]
        if set(left) - {_FIRST_LAYER}:
            raise ExperimentError(
                f"{path} holds no ResNet-34 as torchvision names it: {len(left)} weights are "
                f"missing or have another shape, the last is {left[-1]}"
            )
        self.encoder.load_state_dict({**own, **fitting})
        logger.info(
            "the encoder begins with %s%s", path, " but for its first layer" if left else ""
        )


class VNet(Network):
    """V-Net of Milletari et al. (2016), MONAI's: 16 to 256 feature channels, 5 x 5 x 5 kernels.

    Parameters
    ----------
    inputs:
        Input channels; a divisor of 16.
    classes:
        Output channels.
    """

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__(inputs, dimensions=3)
        self.body = vnet.VNet(spatial_dims=3, in_channels=inputs, out_channels=classes)
        self.to(memory_format=self.memory_format)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute logits.

        Parameters
        ----------
        image:
            (batch, inputs, slices, rows, columns), 0 to 1; edges are multiples of 16.

        Returns
        -------
        torch.Tensor
            (batch, classes, slices, rows, columns).
        """
        return self.body(image)


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return {name: values for name, values in content.items() if torch.is_tensor(values)}
    except (OSError, EOFError, RuntimeError, AttributeError, pickle.UnpicklingError) as error:
        raise ExperimentError(f"{path} holds no weights: {error}") from error
