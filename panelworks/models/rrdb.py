"""RRDBNet, the network of ESRGAN and Real-ESRGAN, as an OpenVINO graph.

Blocks of three dense blocks of five convolutions, each with a residual scaled by 0.2, then two doublings:
https://github.com/XPixelGroup/BasicSR, basicsr/archs/rrdbnet_arch.py. The 2x network begins by folding
2x2 pixels into channels.
"""

import re
from typing import Any, Final

import numpy as np
import openvino as ov
import openvino.opset13 as ops

from panelworks.models.weight_files import Arrays

MARGIN: Final = 24
"""Context in source pixels. The reach of so deep a network is wider, but falls off quickly."""
_SLOPE: Final = np.array([0.2], dtype=np.float32)
_SHARE: Final = np.float32(0.2)
_HEAD: Final = ("conv_first", "conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last")


def is_rrdb(names: set[str]) -> bool:
    """Do these tensor names spell an RRDBNet in its newer naming?"""
    places = {name.rpartition(".")[0] for name in names}
    body = {place for place in places if place.startswith("body.")}
    blocks = len(body) // 15
    wanted = {f"body.{b}.rdb{d}.conv{c}" for b in range(blocks) for d in (1, 2, 3) for c in range(1, 6)}
    return blocks > 0 and places == wanted | set(_HEAD)


def scale_of(arrays: Arrays) -> int:
    """Enlargement: the 2x network takes four times the channels at half the size, the 1x sixteen times."""
    folded = arrays["conv_first.weight"].shape[1] // arrays["conv_last.weight"].shape[0]
    return {1: 4, 4: 2, 16: 1}[folded]


def rrdb_graph(arrays: Arrays) -> ov.Model:
    """The network as an OpenVINO model with dynamic batch, height and width."""
    channels = int(arrays["conv_last.weight"].shape[0])
    fold = 4 // scale_of(arrays)
    source = ops.parameter([-1, channels, -1, -1], np.float32, name="tile")
    flow: Any = ops.space_to_depth(source, "depth_first", fold) if fold > 1 else source
    first = _convolve(flow, arrays, "conv_first")
    blocks = 1 + max(int(match[1]) for name in arrays if (match := re.match(r"body\.(\d+)\.", name)))
    flow = first
    for block in range(blocks):
        flow = _residual(_dense_blocks(flow, arrays, f"body.{block}"), flow)
    flow = ops.add(first, _convolve(flow, arrays, "conv_body"))
    for place in ("conv_up1", "conv_up2"):
        flow = _leaky(_convolve(_doubled(flow), arrays, place))
    flow = _convolve(_leaky(_convolve(flow, arrays, "conv_hr")), arrays, "conv_last")
    return ov.Model([flow], [source], "rrdb")


def _dense_blocks(flow: Any, arrays: Arrays, block: str) -> Any:
    for dense in (1, 2, 3):
        parts = [flow]
        for number in range(1, 5):
            joined = ops.concat(parts, 1) if len(parts) > 1 else flow
            parts.append(_leaky(_convolve(joined, arrays, f"{block}.rdb{dense}.conv{number}")))
        last = _convolve(ops.concat(parts, 1), arrays, f"{block}.rdb{dense}.conv5")
        flow = _residual(last, flow)
    return flow


def _residual(change: Any, flow: Any) -> Any:
    return ops.add(ops.multiply(change, ops.constant(_SHARE)), flow)


def _convolve(flow: Any, arrays: Arrays, place: str) -> Any:
    flow = ops.convolution(flow, arrays[f"{place}.weight"], [1, 1], [1, 1], [1, 1], [1, 1])
    return ops.add(flow, arrays[f"{place}.bias"].reshape(1, -1, 1, 1))


def _leaky(flow: Any) -> Any:
    return ops.prelu(flow, ops.constant(_SLOPE))


def _doubled(flow: Any) -> Any:
    return ops.interpolate(
        flow,
        ops.constant(np.array([2, 2], dtype=np.float32)),
        "nearest",
        "scales",
        axes=ops.constant(np.array([2, 3], dtype=np.int64)),
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
