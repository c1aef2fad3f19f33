"""A network of a package in torch, for what runs torch only.

The weights come from the ONNX file, where normalization is folded into the convolutions.
"""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from torch import nn

from training.networks import UNet

_MAX_DIFFERENCE = 1e-2
TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)


def load_torch_network(path: Path) -> nn.Module:
    """Give the network of an ONNX file that `training.export` wrote from a U-Net.

    Raises
    ------
    ValueError
        It does not compute what ONNX Runtime computes.
    """
    weights = _read_weights(path)
    _, last, bias = weights[-1]
    network = UNet(
        inputs=weights[0][1].shape[1],
        classes=len(bias),
        channels=_channels(weights),
        dimensions=last.ndim - 2,
        stride=last.shape[-1],
    )
    _fold_normalization(network)
    for layer, (kind, weight, bias) in zip(_layers(network), weights, strict=True):
        if kind != ("ConvT" if isinstance(layer, TRANSPOSED) else "Conv"):
            raise ValueError(f"{path} is no U-Net of this project")
        layer.weight.data, layer.bias.data = torch.tensor(weight), torch.tensor(bias)
    _compare(network.eval(), path)
    return network


def _read_weights(path: Path) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Give kind, weights and bias of each convolution in the order of computation."""
    graph = onnx.load(str(path)).graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in values:
            values[node.output[0]] = values[node.input[0]].astype(np.float32)
    kinds = {"Conv": "Conv", "ConvTranspose": "ConvT"}
    return [
        (kinds[node.op_type], values[node.input[1]], values[node.input[2]])
        for node in graph.node
        if node.op_type in kinds
    ]


def _channels(weights: list[tuple[str, np.ndarray, np.ndarray]]) -> list[int]:
    """Read the channels of each level off the encoder, which ends at the first upsampling."""
    encoder = [kind for kind, _, _ in weights].index("ConvT")
    # Each level has two convolutions; the stem of a strided network comes before them.
    return [weights[index][1].shape[0] for index in range(encoder % 2, encoder, 2)]


def _fold_normalization(network: UNet) -> None:
    for block in (*network.encoder, *network.decoder):
        for index, layer in enumerate(block):
            if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d):
                block[index] = nn.Identity()
            elif isinstance(layer, nn.Conv2d | nn.Conv3d):
                layer.bias = nn.Parameter(torch.zeros(layer.out_channels))


def _layers(network: UNet) -> list[nn.Module]:
    """List the convolutions in the order of computation."""
    blocks = [network.stem, *network.encoder]
    for up, block in zip(network.up, network.decoder, strict=True):
        blocks += [up, block]
    modules = [module for block in [*blocks, network.head] for module in block.modules()]
    return [m for m in modules if isinstance(m, (nn.Conv2d, nn.Conv3d, *TRANSPOSED))]


def _compare(network: UNet, path: Path) -> None:
    shape = (1, network.inputs, *(32, 64, 96)[-network.dimensions :])
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"image": image})[0]
    with torch.inference_mode():
        found = network(torch.from_numpy(image)).numpy()
    difference = float(np.abs(found - expected).max())
    if difference > _MAX_DIFFERENCE:
        raise ValueError(f"{path}: torch and ONNX Runtime differ by {difference:.3g} in a logit")
