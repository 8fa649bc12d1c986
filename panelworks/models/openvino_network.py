"""Networks that OpenVINO compiles for the CPU."""

import hashlib
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
import openvino as ov
import psutil

from panelworks.errors import Invalid, ResourceExhausted
from panelworks.models import openvino_graphs as graphs
from panelworks.models.network import Network, Tensor
from panelworks.models.weight_files import Arrays
from panelworks.storage.atomic import write_atomically

logger = logging.getLogger(__name__)

_FLOAT_BYTES: Final = 4
_DIGEST_BYTES: Final = 32
"""Length of the SHA-256 at the start of the file of a compiled network."""


def has_graph(dimensions: dict[str, int]) -> bool:
    """Whether a network with tensors of these names and numbers of dimensions can be built."""
    return graphs.is_compact(dimensions) or graphs.is_rrdb(set(dimensions))


class OpenVinoNetwork:
    """A compiled network. Thread-safe: each call uses its own infer request."""

    device = "openvino"
    window: int | None = None
    alignment = 1

    def __init__(self, arrays: Arrays, *, precision: str, threads: int, cache: Path | None = None) -> None:
        """Build and compile the network.

        Args:
            arrays: State dict for which `has_graph` is true.
            precision: `fp32` forbids bf16; `auto` lets OpenVINO use bf16 if the CPU supports it.
            threads: Threads to use; 0 for all.
            cache: Folder of compiled networks; None to store none.
        """
        if graphs.is_compact({name: array.ndim for name, array in arrays.items()}):
            self.scale, self.margin = graphs.compact_scale(arrays), graphs.compact_margin(arrays)
            self.channels, self._fold = int(arrays["body.0.weight"].shape[1]), 1
            build_graph, floats_per_pixel = graphs.compact_graph, _compact_floats_per_pixel(arrays)
        else:
            self.scale, self.margin = graphs.rrdb_scale(arrays), graphs.RRDB_MARGIN_PIXELS
            self.channels, self._fold = int(arrays["conv_last.weight"].shape[0]), 4 // self.scale
            build_graph, floats_per_pixel = graphs.rrdb_graph, _rrdb_floats_per_pixel(arrays)
        self.bytes = sum(array.nbytes for array in arrays.values())
        self.bytes_per_pixel = _FLOAT_BYTES * floats_per_pixel
        self._compiled: Any = _compile_network(
            arrays, build_graph, _compile_options(precision, threads), cache
        )
        hint = str(self._compiled.get_property("INFERENCE_PRECISION_HINT")).lower()
        self.precision = "bf16" if "bfloat16" in hint or "bf16" in hint else "fp32"

    def __call__(self, tiles: Tensor) -> Tensor:
        height, width = tiles.shape[2:]
        missing = (-height % self._fold, -width % self._fold)
        if any(missing):
            tiles = np.pad(tiles, ((0, 0), (0, 0), (0, missing[0]), (0, missing[1])), mode="edge")
            return self._infer(tiles)[:, :, : height * self.scale, : width * self.scale]
        return self._infer(tiles)

    def _infer(self, tiles: Tensor) -> Tensor:
        try:
            result = self._compiled.create_infer_request().infer({0: tiles}, share_inputs=True)
        except (RuntimeError, MemoryError) as error:
            if isinstance(error, MemoryError) or "alloc" in str(error).lower():
                raise ResourceExhausted(
                    "out_of_memory", "The CPU has too little memory for this tile."
                ) from error
            raise Invalid("network_failed", "The network failed on the CPU.") from error
        output: Tensor = np.asarray(result[0], dtype=np.float32)
        return output

    def adapt_to_page(self, samples: Iterable[Tensor]) -> Network:
        return self

    def free_memory(self) -> int:
        return int(psutil.virtual_memory().available)

    def close(self) -> None:
        self._compiled.release_memory()


def _compile_network(
    arrays: Arrays, build_graph: Callable[[Arrays], Any], config: dict[str, Any], cache: Path | None
) -> Any:
    """Compile a network, or import it if it was compiled before.

    The files are not those of OpenVINO's CACHE_DIR, which writes them in place and does not check their content.
    """
    core = ov.Core()
    if cache is None:
        return core.compile_model(build_graph(arrays), "CPU", config)
    processor = str(core.get_property("CPU", "FULL_DEVICE_NAME"))
    path = (
        cache / f"{_compiled_name(arrays, [ov.__version__, processor, repr(sorted(config.items()))])}.network"
    )
    known = _read_compiled_network(path)
    if known is not None:
        try:
            return core.import_model(known, "CPU", config)
        except RuntimeError as error:
            logger.warning(
                "compiled network %s is compiled again: it cannot be imported (%s)", path.name, error
            )
    compiled = core.compile_model(build_graph(arrays), "CPU", config)
    data = compiled.export_model().getvalue()
    try:
        write_atomically(path, hashlib.sha256(data).digest() + data)
    except OSError as error:
        logger.warning("compiled network is not stored: %s", error)
    return compiled


def _read_compiled_network(path: Path) -> bytes | None:
    """Read a stored compiled network; None if there is none or it is damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, data = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(data).digest() == digest:
        return data
    logger.warning("compiled network %s is compiled again: it is damaged", path.name)
    return None


def _compiled_name(arrays: Arrays, texts: Iterable[str]) -> str:
    """File name for a network with these weights, compiled with these versions and options."""
    digest = hashlib.sha256(repr(list(texts)).encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].shape} {arrays[name].dtype}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()


def _compile_options(precision: str, threads: int) -> dict[str, Any]:
    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if precision == "fp32":
        config["INFERENCE_PRECISION_HINT"] = "f32"
    if threads:
        config["INFERENCE_NUM_THREADS"] = threads
    return config


def _compact_floats_per_pixel(arrays: Arrays) -> int:
    """Numbers in memory for each source pixel: two layers of features, the folded result and the picture twice."""
    features, folded = (
        arrays["body.0.weight"].shape[0],
        arrays[f"body.{graphs.last_convolution(arrays)}.weight"].shape[0],
    )
    return int(2 * features + 3 * folded)


def _rrdb_floats_per_pixel(arrays: Arrays) -> int:
    """Numbers in memory for each source pixel: two layers of features at full size. The blocks rarely need more."""
    features = arrays["conv_first.weight"].shape[0]
    return int(2 * features * graphs.rrdb_scale(arrays) ** 2)
