"""Compact networks (SRVGGNetCompact) as an OpenVINO graph, built from their weights without importing torch.

The network is a chain of 3x3 convolutions with PReLU, a pixel shuffle, and the source repeated to the
new size added at the end: https://github.com/xinntao/Real-ESRGAN, realesrgan/archs/srvgg_arch.py.
"""

import math
import re
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset13 as ops

from panelworks.models.weight_files import Arrays


def is_compact(dimensions: dict[str, int]) -> bool:
    """Do these tensor names and their numbers of dimensions spell a compact network with PReLU?"""
    if not dimensions or not all(re.fullmatch(r"body\.\d+\.(weight|bias)", name) for name in dimensions):
        return False
    last = max(int(name.split(".")[1]) for name in dimensions)
    return (
        last >= 2
        and last % 2 == 0
        and all(dimensions.get(f"body.{index}.weight") == 4 for index in range(0, last + 1, 2))
        and all(dimensions.get(f"body.{index}.weight") == 1 for index in range(1, last, 2))
    )


def last_of(arrays: Arrays) -> int:
    """Number of the last convolution."""
    return max(int(name.split(".")[1]) for name in arrays)


def scale_of(arrays: Arrays) -> int:
    """Enlargement: channels that come out fold into pixels."""
    channels = int(arrays["body.0.weight"].shape[1])
    return round(math.sqrt(arrays[f"body.{last_of(arrays)}.weight"].shape[0] / channels))


def margin_of(arrays: Arrays) -> int:
    """Source pixels that a result depends on: one for each convolution."""
    return last_of(arrays) // 2 + 1


def compact_graph(arrays: Arrays) -> ov.Model:
    """The network as an OpenVINO model with dynamic batch, height and width."""
    last, scale = last_of(arrays), scale_of(arrays)
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
