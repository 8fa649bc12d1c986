"""Networks compiled by OpenVINO for the CPU."""

import hashlib
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
import openvino as ov
import psutil

from panelworks.errors import Invalid, ResourceExhausted
from panelworks.models import compact, rrdb
from panelworks.models.network import Network, Tensor
from panelworks.models.weight_files import Arrays
from panelworks.storage.atomic import write_atomically

logger = logging.getLogger(__name__)

_FLOAT: Final = 4
_DIGEST_BYTES: Final = 32
"""Of the SHA-256 in front of a compiled network."""


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
        graph = compact.compact_graph if small else rrdb.rrdb_graph
        self._compiled: Any = _compile(arrays, graph, _config(precision, threads), cache)
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


def _compile(
    arrays: Arrays, graph: Callable[[Arrays], Any], config: dict[str, Any], cache: Path | None
) -> Any:
    """Compile a network, or import it as it was compiled before.

    The files are our own instead of those of OpenVINO's CACHE_DIR, which writes them in place and checks no content.
    """
    core = ov.Core()
    if cache is None:
        return core.compile_model(graph(arrays), "CPU", config)
    processor = str(core.get_property("CPU", "FULL_DEVICE_NAME"))
    path = cache / f"{_identity(arrays, [ov.__version__, processor, repr(sorted(config.items()))])}.network"
    known = _read_compiled(path)
    if known is not None:
        try:
            return core.import_model(known, "CPU", config)
        except RuntimeError as error:
            logger.warning("compiled network %s is not usable and is compiled again: %s", path.name, error)
    compiled = core.compile_model(graph(arrays), "CPU", config)
    data = compiled.export_model().getvalue()
    try:
        write_atomically(path, hashlib.sha256(data).digest() + data)
    except OSError as error:
        logger.warning("compiled network was not kept: %s", error)
    return compiled


def _read_compiled(path: Path) -> bytes | None:
    """A compiled network that was kept; None when there is none, or when it is damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, data = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(data).digest() == digest:
        return data
    logger.warning("compiled network %s is damaged and is compiled again", path.name)
    return None


def _identity(arrays: Arrays, texts: Iterable[str]) -> str:
    """A name for a network with these weights, compiled under these circumstances."""
    digest = hashlib.sha256(repr(list(texts)).encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].shape} {arrays[name].dtype}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()


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
