"""Compact networks and RRDBNets as OpenVINO graphs, built from their weights without importing torch.

A compact network (SRVGGNetCompact) is a chain of 3x3 convolutions with PReLU and a pixel shuffle. The source, repeated
to the new size, is added at the end: https://github.com/xinntao/Real-ESRGAN, realesrgan/archs/srvgg_arch.py.

RRDBNet, the network of ESRGAN and Real-ESRGAN, has blocks of three dense blocks of five convolutions. Each has a
residual scaled by 0.2. Two doublings follow: https://github.com/XPixelGroup/BasicSR, basicsr/archs/rrdbnet_arch.py.
The 2x network begins by folding 2x2 pixels into channels.
"""

import math
import re
from typing import Any, Final

import numpy as np
import openvino as ov
import openvino.opset13 as ops

from panelworks.models.weight_files import Arrays


def is_compact(dimensions: dict[str, int]) -> bool:
    """Whether tensors with these names and numbers of dimensions are a compact network with PReLU."""
    if not dimensions or not all(re.fullmatch(r"body\.\d+\.(weight|bias)", name) for name in dimensions):
        return False
    last = max(int(name.split(".")[1]) for name in dimensions)
    return (
        last >= 2
        and last % 2 == 0
        and all(dimensions.get(f"body.{index}.weight") == 4 for index in range(0, last + 1, 2))
        and all(dimensions.get(f"body.{index}.weight") == 1 for index in range(1, last, 2))
    )


def last_convolution(arrays: Arrays) -> int:
    """Index of the last convolution."""
    return max(int(name.split(".")[1]) for name in arrays)


def compact_scale(arrays: Arrays) -> int:
    """Scale of a compact network: its output channels fold into pixels."""
    channels = int(arrays["body.0.weight"].shape[1])
    return round(math.sqrt(arrays[f"body.{last_convolution(arrays)}.weight"].shape[0] / channels))


def compact_margin(arrays: Arrays) -> int:
    """Source pixels around a tile that influence its result: one for each convolution."""
    return last_convolution(arrays) // 2 + 1


def compact_graph(arrays: Arrays) -> ov.Model:
    """The network as an OpenVINO model with dynamic batch, height and width."""
    last, scale = last_convolution(arrays), compact_scale(arrays)
    channels = int(arrays["body.0.weight"].shape[1])
    source = ops.parameter([-1, channels, -1, -1], np.float32, name="tile")
    flow: Any = source
    for index in range(0, last + 1, 2):
        weight, bias = arrays[f"body.{index}.weight"], arrays[f"body.{index}.bias"]
        flow = ops.convolution(flow, weight, [1, 1], [1, 1], [1, 1], [1, 1])
        flow = ops.add(flow, bias.reshape(1, -1, 1, 1))
        if index < last:
            flow = ops.prelu(flow, arrays[f"body.{index + 1}.weight"])
    if scale == 1:
        return ov.Model([ops.add(flow, source)], [source], "compact")
    shuffled = ops.depth_to_space(flow, "depth_first", scale)
    repeated = ops.interpolate(
        source,
        ops.constant(np.array([scale, scale], dtype=np.float32)),
        "nearest",
        "scales",
        axes=ops.constant(np.array([2, 3], dtype=np.int64)),
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    return ov.Model([ops.add(shuffled, repeated)], [source], "compact")


RRDB_MARGIN_PIXELS: Final = 24
"""Context in source pixels. The receptive field is larger, but its edge has little influence."""
_LEAKY_SLOPE: Final = np.array([0.2], dtype=np.float32)
_RESIDUAL_SHARE: Final = np.float32(0.2)
_HEAD_LAYERS: Final = ("conv_first", "conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last")


def is_rrdb(names: set[str]) -> bool:
    """Whether tensors with these names are an RRDBNet in its newer naming."""
    places = {name.rpartition(".")[0] for name in names}
    body = {place for place in places if place.startswith("body.")}
    blocks = len(body) // 15
    wanted = {f"body.{b}.rdb{d}.conv{c}" for b in range(blocks) for d in (1, 2, 3) for c in range(1, 6)}
    return blocks > 0 and places == wanted | set(_HEAD_LAYERS)


def rrdb_scale(arrays: Arrays) -> int:
    """Scale of an RRDBNet: the 2x network has four times the input channels at half the size, the 1x network sixteen."""
    folded = arrays["conv_first.weight"].shape[1] // arrays["conv_last.weight"].shape[0]
    return {1: 4, 4: 2, 16: 1}[folded]


def rrdb_graph(arrays: Arrays) -> ov.Model:
    """The network as an OpenVINO model with dynamic batch, height and width."""
    channels = int(arrays["conv_last.weight"].shape[0])
    fold = 4 // rrdb_scale(arrays)
    source = ops.parameter([-1, channels, -1, -1], np.float32, name="tile")
    flow: Any = ops.space_to_depth(source, "depth_first", fold) if fold > 1 else source
    first = _add_convolution(flow, arrays, "conv_first")
    blocks = 1 + max(int(match[1]) for name in arrays if (match := re.match(r"body\.(\d+)\.", name)))
    flow = first
    for block in range(blocks):
        flow = _add_residual(_add_dense_blocks(flow, arrays, f"body.{block}"), flow)
    flow = ops.add(first, _add_convolution(flow, arrays, "conv_body"))
    for place in ("conv_up1", "conv_up2"):
        flow = _add_leaky_relu(_add_convolution(_add_doubling(flow), arrays, place))
    flow = _add_convolution(_add_leaky_relu(_add_convolution(flow, arrays, "conv_hr")), arrays, "conv_last")
    return ov.Model([flow], [source], "rrdb")


def _add_dense_blocks(flow: Any, arrays: Arrays, block: str) -> Any:
    for dense in (1, 2, 3):
        parts = [flow]
        for number in range(1, 5):
            joined = ops.concat(parts, 1) if len(parts) > 1 else flow
            parts.append(
                _add_leaky_relu(_add_convolution(joined, arrays, f"{block}.rdb{dense}.conv{number}"))
            )
        last = _add_convolution(ops.concat(parts, 1), arrays, f"{block}.rdb{dense}.conv5")
        flow = _add_residual(last, flow)
    return flow


def _add_residual(change: Any, flow: Any) -> Any:
    return ops.add(ops.multiply(change, ops.constant(_RESIDUAL_SHARE)), flow)


def _add_convolution(flow: Any, arrays: Arrays, place: str) -> Any:
    flow = ops.convolution(flow, arrays[f"{place}.weight"], [1, 1], [1, 1], [1, 1], [1, 1])
    return ops.add(flow, arrays[f"{place}.bias"].reshape(1, -1, 1, 1))


def _add_leaky_relu(flow: Any) -> Any:
    return ops.prelu(flow, ops.constant(_LEAKY_SLOPE))


def _add_doubling(flow: Any) -> Any:
    return ops.interpolate(
        flow,
        ops.constant(np.array([2, 2], dtype=np.float32)),
        "nearest",
        "scales",
        axes=ops.constant(np.array([2, 3], dtype=np.int64)),
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
