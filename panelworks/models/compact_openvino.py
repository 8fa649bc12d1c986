"""Compact networks (SRVGGNetCompact) on OpenVINO, built from their weights without importing torch.

The network is a chain of 3x3 convolutions with PReLU, a pixel shuffle, and the source repeated to the
new size added at the end: https://github.com/xinntao/Real-ESRGAN, realesrgan/archs/srvgg_arch.py.
"""

import re
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset13 as ops

from panelworks.errors import Invalid, ResourceExhausted
from panelworks.models.network import Tensor
from panelworks.models.state import Arrays


def is_compact(names: set[str], dimensions: dict[str, int]) -> bool:
    """Do these tensor names and their numbers of dimensions spell a compact network with PReLU?"""
    if not names or not all(re.fullmatch(r"body\.\d+\.(weight|bias)", name) for name in names):
        return False
    last = max(int(name.split(".")[1]) for name in names)
    return (
        last >= 2
        and last % 2 == 0
        and all(dimensions.get(f"body.{index}.weight") == 4 for index in range(0, last + 1, 2))
        and all(dimensions.get(f"body.{index}.weight") == 1 for index in range(1, last, 2))
    )


class CompactOpenVino:
    """A compact network compiled for the CPU. Thread-safe: each call has its own infer request."""

    device = "openvino"

    def __init__(self, arrays: Arrays, *, precision: str, threads: int) -> None:
        """`precision` `fp32` forbids bf16; `auto` lets OpenVINO take what the CPU has. 0 threads: all."""
        last = max(int(name.split(".")[1]) for name in arrays)
        self.channels = int(arrays["body.0.weight"].shape[1])
        self.scale = round((arrays[f"body.{last}.weight"].shape[0] / self.channels) ** 0.5)
        self.margin = last // 2 + 1
        config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if precision == "fp32":
            config["INFERENCE_PRECISION_HINT"] = "f32"
        if threads:
            config["INFERENCE_NUM_THREADS"] = threads
        model = _build(arrays, last, self.channels, self.scale)
        self._compiled = ov.Core().compile_model(model, "CPU", config)

    def __call__(self, tile: Tensor) -> Tensor:
        try:
            result = self._compiled.create_infer_request().infer({0: tile})
        except (RuntimeError, MemoryError) as error:
            if isinstance(error, MemoryError) or "alloc" in str(error).lower():
                raise ResourceExhausted(
                    "out_of_memory", "The CPU has too little memory for this tile."
                ) from error
            raise Invalid("network_failed", "The network failed on the CPU.") from error
        output: Tensor = np.array(result[0], dtype=np.float32)
        return output


def _build(arrays: Arrays, last: int, channels: int, scale: int) -> ov.Model:
    source = ops.parameter([1, channels, -1, -1], np.float32, name="tile")
    flow: Any = source
    for index in range(0, last + 1, 2):
        weight, bias = arrays[f"body.{index}.weight"], arrays[f"body.{index}.bias"]
        flow = ops.convolution(flow, weight, [1, 1], [1, 1], [1, 1], [1, 1])
        flow = ops.add(flow, bias.reshape(1, -1, 1, 1))
        if index < last:
            flow = ops.prelu(flow, arrays[f"body.{index + 1}.weight"])
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
