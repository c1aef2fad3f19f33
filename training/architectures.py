"""The network that an experiment names."""

from training.config import Experiment
from training.networks import Network, UNet


def build_network(experiment: Experiment) -> Network:
    """Give the untrained network of an experiment."""
    config, classes = experiment.network, len(experiment.labels)
    if config.architecture == "unet":
        return UNet(experiment.inputs, classes, config.channels, config.dimensions, config.stride)
    # MONAI takes seconds to be imported.
    from training.monai_networks import ResNetUNet, VNet

    architecture = ResNetUNet if config.architecture == "unet-resnet34" else VNet
    return architecture(experiment.inputs, classes)
