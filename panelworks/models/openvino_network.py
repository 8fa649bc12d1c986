"""Networks compiled by OpenVINO for the CPU."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
import openvino as ov
import psutil

from panelworks.errors import Invalid, ResourceExhausted
from panelworks.models import compact, rrdb
from panelworks.models.network import Network, Tensor
from panelworks.models.state import Arrays

logger = logging.getLogger(__name__)

_FLOAT: Final = 4


def has_graph(dimensions: dict[str, int]) -> bool:
    """Can a network with tensors of these names and numbers of dimensions be built here?"""
    return compact.is_compact(dimensions) or rrdb.is_rrdb(set(dimensions))


class OpenVinoNetwork:
    """A compiled network. Thread-safe: each call has its own infer request."""

    device = "openvino"
    window: int | None = None
    alignment = 1

    def __init__(self, arrays: Arrays, *, precision: str, threads: int, cache: Path | None = None) -> None:
        """Build and compile.

        Args:
            arrays: State dict for which `has_graph` is true.
            precision: `fp32` forbids bf16; `auto` lets OpenVINO take bf16 where the CPU has it.
            threads: 0 takes all.
            cache: Folder that keeps compiled networks; None keeps none.
        """
        small = compact.is_compact({name: array.ndim for name, array in arrays.items()})
        form = compact if small else rrdb
        self.scale = form.scale_of(arrays)
        self.channels = int(arrays["body.0.weight" if small else "conv_last.weight"].shape[1 if small else 0])
        self.margin = compact.margin_of(arrays) if small else rrdb.MARGIN
        self._fold = 1 if small else 4 // self.scale
        self.bytes = sum(array.nbytes for array in arrays.values())
        self.bytes_per_pixel = _FLOAT * (_compact_floats(arrays) if small else _rrdb_floats(arrays))
        model = compact.compact_graph(arrays) if small else rrdb.rrdb_graph(arrays)
        self._compiled: Any = _core(cache).compile_model(model, "CPU", _config(precision, threads))
        hint = str(self._compiled.get_property("INFERENCE_PRECISION_HINT")).lower()
        self.precision = "bf16" if "bfloat16" in hint or "bf16" in hint else "fp32"

    def __call__(self, tiles: Tensor) -> Tensor:
        height, width = tiles.shape[2:]
        missing = (-height % self._fold, -width % self._fold)
        if any(missing):
            tiles = np.pad(tiles, ((0, 0), (0, 0), (0, missing[0]), (0, missing[1])), mode="edge")
            return self._inferred(tiles)[:, :, : height * self.scale, : width * self.scale]
        return self._inferred(tiles)

    def _inferred(self, tiles: Tensor) -> Tensor:
        try:
            result = self._compiled.create_infer_request().infer({0: tiles})
        except (RuntimeError, MemoryError) as error:
            if isinstance(error, MemoryError) or "alloc" in str(error).lower():
                raise ResourceExhausted(
                    "out_of_memory", "The CPU has too little memory for this tile."
                ) from error
            raise Invalid("network_failed", "The network failed on the CPU.") from error
        output: Tensor = np.array(result[0], dtype=np.float32)
        return output

    def settled(self, samples: Iterable[Tensor]) -> Network:
        return self

    def free_memory(self) -> int:
        return int(psutil.virtual_memory().available)

    def close(self) -> None:
        self._compiled.release_memory()


def _core(cache: Path | None) -> ov.Core:
    core = ov.Core()
    if cache is not None:
        core.set_property({"CACHE_DIR": str(cache)})
    return core


def _config(precision: str, threads: int) -> dict[str, Any]:
    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if precision == "fp32":
        config["INFERENCE_PRECISION_HINT"] = "f32"
    if threads:
        config["INFERENCE_NUM_THREADS"] = threads
    return config


def _compact_floats(arrays: Arrays) -> int:
    """Numbers held at once for a source pixel: two layers of features, the folded result and the picture twice."""
    features, folded = (
        arrays["body.0.weight"].shape[0],
        arrays[f"body.{compact.last_of(arrays)}.weight"].shape[0],
    )
    return int(2 * features + 3 * folded)


def _rrdb_floats(arrays: Arrays) -> int:
    """At full size two layers of features; within the blocks, seldom more."""
    features = arrays["conv_first.weight"].shape[0]
    return int(2 * features * rrdb.scale_of(arrays) ** 2)
