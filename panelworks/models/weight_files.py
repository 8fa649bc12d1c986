"""Reading weight files (safetensors, .pth, ncnn pairs) as named arrays, without running code from them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from panelworks.errors import Misconfigured

if TYPE_CHECKING:
    import torch
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

Arrays = dict[str, npt.NDArray[np.float32]]


def read_safetensors(path: Path) -> Arrays:
    """The tensors of a safetensors file as float32, without importing torch.

    Raises:
        Misconfigured: `weights_unreadable`.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return {name: value.astype(np.float32) for name, value in load_file(path).items()}
    except (SafetensorError, OSError, TypeError) as error:
        raise _unreadable(path, error) from error


def read_pickle(path: Path) -> "dict[str, torch.Tensor]":
    """The state dict of a .pth file, read with `weights_only`, which runs no code from the file.

    Raises:
        Misconfigured: `weights_unreadable`.
    """
    import torch

    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
        for key in ("params_ema", "params", "state_dict"):
            if isinstance(content.get(key), dict):
                content = content[key]
                break
        return {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
    except TimeoutError:
        raise  # the timeout of a task; the file may be valid
    except Exception as error:  # torch raises any kind of error for an invalid file
        raise _unreadable(path, error) from error


def read_arrays(path: Path) -> Arrays:
    """The tensors of any weight file as float32 numpy arrays. torch is imported only for a .pth file.

    Raises:
        Misconfigured: `weights_unreadable`, `unsupported_model`.
    """

    if path.suffix == ".safetensors":
        return read_safetensors(path)
    if is_pair(path):
        return read_pair(path)
    return {name: value.float().numpy() for name, value in read_pickle(path).items()}


def blended(first: Arrays, second: Arrays, share: float) -> Arrays:
    """Blend the weights of two networks of the same shape: `share` of the first, the rest of the second.

    Raises:
        Misconfigured: `unsupported_model`, their shapes differ.
    """
    if {n: a.shape for n, a in first.items()} != {n: a.shape for n, a in second.items()}:
        raise Misconfigured("unsupported_model", "Only networks of the same shape can be blended.")
    return {
        name: (np.float32(share) * array + np.float32(1 - share) * second[name]).astype(np.float32)
        for name, array in first.items()
    }


def _unreadable(path: Path, error: Exception) -> Misconfigured:
    return Misconfigured(
        "weights_unreadable", f"{path.name} is not a usable weight file ({type(error).__name__})."
    )


def is_pair(path: Path) -> bool:
    """Is this a file of an ncnn pair, with the other file next to it?"""
    return path.suffix.lower() in (".param", ".bin") and all(part.is_file() for part in pair_of(path))


def pair_of(path: Path) -> tuple[Path, Path]:
    """The `.param` and the `.bin` file."""
    return path.with_suffix(".param"), path.with_suffix(".bin")


def pair_bytes(path: Path) -> int:
    """Size of both files."""
    return sum(part.stat().st_size for part in pair_of(path))


def pair_digest(path: Path) -> str:
    """SHA-256 over both files, in hexadecimal."""
    digest = hashlib.sha256()
    for part in pair_of(path):
        digest.update(part.read_bytes())
    return digest.hexdigest()


_MAGIC: Final = "7767517"
_FP16: Final = 0x01306B47
_WEIGHTED: Final = ("Convolution", "Deconvolution", "InnerProduct")
_DENSE_BLOCKS: Final = 3
"""Dense blocks in each block of RRDBNet; each has five convolutions."""
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Layer:
    """One line of a `.param` file; `ints` are its parameters by number."""

    kind: str
    ints: dict[int, int] = field(default_factory=dict)


def read_pair(path: Path) -> Arrays:
    """The state dict of the network in an ncnn pair, as float32 under its PyTorch names.

    Raises:
        Misconfigured: `weights_unreadable`, the files do not match; `unsupported_model`.
    """
    param, binary = pair_of(path)
    try:
        layers = list(_layers(param.read_text(encoding="utf-8")))
        numbers = list(_numbers(layers, binary.read_bytes()))
    except (ValueError, IndexError, KeyError) as error:
        raise Misconfigured(
            "weights_unreadable", f"{param.name} and {binary.name} are not a usable ncnn pair ({error})."
        ) from error
    names = _names(layers)
    if names is None:
        raise Misconfigured("unsupported_model", f"{param.name} does not contain a known network.")
    return dict(zip(names, numbers, strict=True))


def _layers(text: str) -> Iterator[Layer]:
    lines = text.split("\n")
    if lines[0].strip() != _MAGIC:
        raise ValueError("it does not start with the number of ncnn")
    for line in lines[2:]:
        words = line.split()
        if not words:
            continue
        inputs, outputs = int(words[2]), int(words[3])
        ints = {}
        for word in words[4 + inputs + outputs :]:
            key, _, value = word.partition("=")
            if re.fullmatch(r"-?\d+", value):
                ints[int(key)] = int(value)
        yield Layer(words[0], ints)


def _numbers(layers: list[Layer], data: bytes) -> Iterator[Floats]:
    """The arrays in the order of the layers: weight and bias, or the slopes of PReLU."""
    offset = 0

    def floats(count: int) -> Floats:
        nonlocal offset
        end = offset + 4 * count
        if end > len(data):
            raise ValueError("the .bin file is too short")
        array = np.frombuffer(data[offset:end], dtype="<f4").astype(np.float32)
        offset = end
        return array

    def weights(count: int) -> Floats:
        nonlocal offset
        tag = int.from_bytes(data[offset : offset + 4], "little")
        offset += 4
        if tag == 0:
            return floats(count)
        if tag != _FP16:
            raise ValueError(f"its storage format is not supported (0x{tag:08x})")
        end = offset + 2 * count
        if end > len(data):
            raise ValueError("the .bin file is too short")
        array = np.frombuffer(data[offset:end], dtype="<f2").astype(np.float32)
        offset = -(-end // 4) * 4
        return array

    for layer in layers:
        if layer.kind == "PReLU":
            yield floats(layer.ints[0])
        elif layer.kind in _WEIGHTED:
            yield _shaped(layer, weights(layer.ints[2 if layer.kind == "InnerProduct" else 6]))
            yield floats(layer.ints[0]) if _has_bias(layer) else np.zeros(layer.ints[0], np.float32)
    if offset != len(data):
        raise ValueError("the .bin file is too long")


def _has_bias(layer: Layer) -> bool:
    return bool(layer.ints.get(1 if layer.kind == "InnerProduct" else 5))


def _shaped(layer: Layer, flat: Floats) -> Floats:
    """Weights in the shape of PyTorch: out x in x height x width, in x out for a transposed convolution."""
    out = layer.ints[0]
    side = 1 if layer.kind == "InnerProduct" else layer.ints[1]
    array = flat.reshape(out, -1, side, layer.ints.get(11, side) if side > 1 else 1)
    return np.ascontiguousarray(array.transpose(1, 0, 2, 3)) if layer.kind == "Deconvolution" else array


def _names(layers: list[Layer]) -> list[str] | None:
    """The names of the arrays of `_numbers`; None for an unknown network."""
    kinds = [layer.kind for layer in layers if layer.kind in (*_WEIGHTED, "PReLU")]
    if "Deconvolution" in kinds:
        places = _cugan_places(layers)
    elif "PReLU" in kinds:
        return _compact_names(kinds)
    else:
        places = _rrdb_places(len(kinds))
    if places is None or len(places) != len(kinds):
        return None
    return [f"{place}.{what}" for place in places for what in ("weight", "bias")]


def _compact_names(kinds: list[str]) -> list[str] | None:
    if kinds != ["Convolution", "PReLU"] * (len(kinds) // 2) + ["Convolution"]:
        return None
    names = []
    for index, kind in enumerate(kinds):
        names += [f"body.{index}.weight"] + ([f"body.{index}.bias"] if kind == "Convolution" else [])
    return names


def _rrdb_places(count: int) -> list[str] | None:
    """Names of the convolutions of RRDBNet; None if their number does not fit."""
    blocks, rest = divmod(count - 6, 5 * _DENSE_BLOCKS)
    if blocks < 1 or rest:
        return None
    body = [
        f"body.{block}.rdb{dense}.conv{number}"
        for block in range(blocks)
        for dense in range(1, _DENSE_BLOCKS + 1)
        for number in range(1, 6)
    ]
    return ["conv_first", *body, "conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"]


def _cugan_places(layers: list[Layer]) -> list[str] | None:
    """Names of the convolutions of Real-CUGAN: two U-Nets with squeeze-and-excitation blocks."""
    first = ["conv1.conv.0", "conv1.conv.2", "conv1_down", "conv2.conv.0", "conv2.conv.2"]
    first += ["conv2.seblock.conv1", "conv2.seblock.conv2", "conv2_up", "conv3", "conv_bottom"]
    second = ["conv1.conv.0", "conv1.conv.2", "conv1_down", "conv2.conv.0", "conv2.conv.2"]
    second += ["conv2.seblock.conv1", "conv2.seblock.conv2", "conv2_down", "conv3.conv.0", "conv3.conv.2"]
    second += ["conv3.seblock.conv1", "conv3.seblock.conv2", "conv3_up", "conv4.conv.0", "conv4.conv.2"]
    second += ["conv4.seblock.conv1", "conv4.seblock.conv2", "conv4_up", "conv5", "conv_bottom"]
    places = [f"unet1.{place}" for place in first] + [f"unet2.{place}" for place in second]
    return [*places, "conv_final"] if any(layer.kind == "PixelShuffle" for layer in layers) else places
