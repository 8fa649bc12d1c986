"""Beginning a larger network where a smaller one ended.

After Chen, Goodfellow and Shlens, Net2Net: accelerating learning via knowledge transfer (ICLR 2016),
with new channels that nobody listens to yet, instead of copies: the larger network computes what the
smaller one did, and every weight can learn.
"""

import re

import torch

Weights = dict[str, torch.Tensor]


def grown(small: Weights, large: Weights) -> Weights:
    """The weights of a compact network of `large`'s shapes that computes what `small` does.

    New layers (a convolution and its activation) are put before the last convolution; they pass on what
    they are given. `large` holds fresh weights, of which the new channels keep their incoming part.

    Raises:
        ValueError: a shape of `large` is smaller than that of `small`.
    """
    last = max(_layer(name) for name in small)
    new_last = max(_layer(name) for name in large)
    result = {name: value.clone().float() for name, value in large.items()}
    for name, value in small.items():
        layer = _layer(name)
        target = name if layer < last else name.replace(f"body.{layer}.", f"body.{new_last}.")
        result[target] = _widened(value.float(), result[target])
    for layer in range(last, new_last):
        known = small[f"body.{last}.weight"].shape[1]
        for name in (key for key in result if _layer(key) == layer):
            result[name] = _passing_on(result[name], known)
    return result


def _layer(name: str) -> int:
    match = re.match(r"body\.(\d+)\.", name)
    if match is None:
        raise ValueError(f"{name} is no weight of a compact network")
    return int(match.group(1))


def _widened(small: torch.Tensor, large: torch.Tensor) -> torch.Tensor:
    if any(little > much for little, much in zip(small.shape, large.shape, strict=True)):
        raise ValueError("a network cannot grow smaller")
    result = large.clone()
    if small.dim() == 4:
        result[: small.shape[0], small.shape[1] :] = 0  # what was there does not listen to what is new
    result[tuple(slice(0, length) for length in small.shape)] = small
    return result


def _passing_on(weights: torch.Tensor, known: int) -> torch.Tensor:
    """A layer that gives the first `known` channels on as they are."""
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
    """Are these the slopes of an activation, which begin alike, or the biases of a convolution?"""
    return bool((weights == weights[0]).all())
