"""The networks that can be trained: compact ones, whose convolutions may be wider during the training.

A compact network (SRVGGNetCompact of Real-ESRGAN) is a chain of 3x3 convolutions with PReLU, a pixel shuffle and the
source enlarged by repetition. A collapsible one has, in place of each convolution, a 3x3 convolution to many channels
followed by a 1x1 convolution, which are multiplied into one 3x3 convolution before each step (Bhardwaj et al., Collapsible
linear blocks for super-efficient super-resolution, MLSys 2022). Its result is a plain compact network.
"""

from typing import Final, Literal

import torch
from spandrel.architectures.Compact import Compact
from torch import nn

from training.growth import Weights

Design = Literal["plain", "collapsible"]
_EXPANDED_CHANNELS: Final = 256
"""Channels between the two convolutions, as in the paper."""


class CollapsibleConvolution(nn.Module):
    """A 3x3 convolution whose weights are the product of two convolutions, plus the identity where the sizes allow it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.wide = nn.Conv2d(inputs, _EXPANDED_CHANNELS, 3, bias=False).weight
        self.narrow = nn.Conv2d(_EXPANDED_CHANNELS, outputs, 1, bias=False).weight
        self.bias = nn.Parameter(torch.zeros(outputs))
        identity = torch.zeros(outputs, inputs, 3, 3)
        if inputs == outputs:
            identity[range(outputs), range(inputs), 1, 1] = 1
        self.register_buffer("identity", identity, persistent=False)
        self.identity: torch.Tensor

    @property
    def weight(self) -> torch.Tensor:
        """The collapsed weights, outputs x inputs x 3 x 3."""
        return torch.einsum("om,mihw->oihw", self.narrow[:, :, 0, 0], self.wide) + self.identity

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Convolve N x inputs x H x W."""
        return nn.functional.conv2d(features, self.weight, self.bias, padding=1)


def make_network(design: Design, features: int, convolutions: int) -> Compact:
    """Make a network for 2x with random weights."""
    network = Compact(num_feat=features, num_conv=convolutions, upscale=2)
    if design == "collapsible":
        for number, layer in enumerate(network.body):
            if isinstance(layer, nn.Conv2d):
                network.body[number] = CollapsibleConvolution(layer.in_channels, layer.out_channels)
    return network


def collapse_weights(network: nn.Module, weights: Weights) -> Weights:
    """The weights of the plain compact network that computes the same as `network` with `weights`."""
    collapsed: Weights = {}
    for name, layer in network.named_modules():
        own = {
            key.removeprefix(f"{name}."): value
            for key, value in weights.items()
            if key.rpartition(".")[0] == name
        }
        if isinstance(layer, CollapsibleConvolution):
            product = torch.einsum("om,mihw->oihw", own["narrow"][:, :, 0, 0], own["wide"])
            collapsed |= {f"{name}.weight": product + layer.identity.to(product), f"{name}.bias": own["bias"]}
        else:
            collapsed |= {f"{name}.{key}": value for key, value in own.items()}
    return collapsed
