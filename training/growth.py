"""Initialising a larger network with the weights of a smaller one.

After Chen, Goodfellow and Shlens, Net2Net: accelerating learning via knowledge transfer (ICLR 2016), but with unused
new channels instead of copies: the larger network computes the same as the smaller one, and every weight can learn.
"""

import re

import torch

Weights = dict[str, torch.Tensor]


def grow_weights(small: Weights, large: Weights) -> Weights:
    """Make weights for a compact network of `large`'s size that computes the same as `small`.

    New layers (a convolution and its activation) are inserted before the last convolution as identities. `large` has
    fresh weights. The new channels keep their incoming part of them.

    Raises:
        ValueError: a shape of `large` is smaller than that of `small`.
    """
    last = max(_layer_number(name) for name in small)
    new_last = max(_layer_number(name) for name in large)
    result = {name: value.clone().float() for name, value in large.items()}
    for name, value in small.items():
        layer = _layer_number(name)
        target = name if layer < last else name.replace(f"body.{layer}.", f"body.{new_last}.")
        result[target] = _widen(value.float(), result[target])
    for layer in range(last, new_last):
        known = small[f"body.{last}.weight"].shape[1]
        for name in (key for key in result if _layer_number(key) == layer):
            result[name] = _make_identity(result[name], known)
    return result


def _layer_number(name: str) -> int:
    match = re.match(r"body\.(\d+)\.", name)
    if match is None:
        raise ValueError(f"{name} is not a weight of a compact network")
    return int(match.group(1))


def _widen(small: torch.Tensor, large: torch.Tensor) -> torch.Tensor:
    if any(little > much for little, much in zip(small.shape, large.shape, strict=True)):
        raise ValueError("a network cannot grow smaller")
    result = large.clone()
    if small.dim() == 4:
        result[: small.shape[0], small.shape[1] :] = 0  # old channels ignore new channels
    result[tuple(slice(0, length) for length in small.shape)] = small
    return result


def _make_identity(weights: torch.Tensor, known: int) -> torch.Tensor:
    """Make a layer pass on the first `known` channels unchanged."""
    result = weights.clone()
    if result.dim() == 4:
        result[:known] = 0
        middle = result.shape[2] // 2
        for channel in range(known):
            result[channel, channel, middle, middle] = 1
        return result
    result[:known] = 0 if not _is_slope(weights) else 1
    return result


def _is_slope(weights: torch.Tensor) -> bool:
    """Whether these are the slopes of an activation, which start equal, rather than the biases of a convolution."""
    return bool((weights == weights[0]).all())
