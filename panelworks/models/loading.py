"""Loading a network once and keeping it: the runtime is chosen by architecture and device."""

import logging
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Final, Literal

from panelworks.models.network import Network
from panelworks.models.registry import ModelCard
from panelworks.models.state import read_pickle, read_safetensors
from panelworks.models.weights import weights_path
from panelworks.settings import Settings

logger = logging.getLogger(__name__)

Precision = Literal["auto", "fp32"]
_KEPT: Final = 3
_loaded: "OrderedDict[tuple[str, str, str, int], Network]" = OrderedDict()
_lock = threading.Lock()


def load_network(card: ModelCard, settings: Settings, precision: Precision = "auto") -> Network:
    """The network of a card, from memory when it was used lately.

    Raises:
        Transient: the weights could not be downloaded.
        Misconfigured: the file is not a usable network.
    """
    key = (card.sha256, settings.device, precision, settings.threads)
    with _lock:
        network = _loaded.get(key)
        if network is None:
            network = _load(weights_path(card, settings), settings, precision)
            logger.info("loaded %s on %s", card.name, network.device)
            _loaded[key] = network
            if len(_loaded) > _KEPT:
                _loaded.popitem(last=False)
        _loaded.move_to_end(key)
        return network


def _load(path: Path, settings: Settings, precision: Precision) -> Network:
    """Compact networks run on OpenVINO on a CPU, everything else on torch.

    Torch takes seconds to import, so a safetensors file of a compact network never touches it, unless
    there may be an accelerator: `auto` asks torch only where a driver's device file says so.
    """
    on_cpu = settings.device == "cpu" or (settings.device == "auto" and not _may_have_accelerator())
    if path.suffix == ".safetensors" and on_cpu:
        arrays = read_safetensors(path)
        if _is_compact({name: value.ndim for name, value in arrays.items()}):
            from panelworks.models.compact_openvino import CompactOpenVino

            return CompactOpenVino(arrays, precision=precision, threads=settings.threads)
    return _load_with_torch(path, settings, precision, on_cpu)


def _load_with_torch(path: Path, settings: Settings, precision: Precision, on_cpu: bool) -> Network:
    from panelworks.models.spandrel_torch import SpandrelTorch, pick_device

    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        state = load_file(path)
    else:
        state = read_pickle(path)
    if _is_compact({name: value.ndim for name, value in state.items()}) and (
        on_cpu or pick_device(settings.device).type == "cpu"
    ):
        from panelworks.models.compact_openvino import CompactOpenVino

        arrays = {name: value.float().numpy() for name, value in state.items()}
        return CompactOpenVino(arrays, precision=precision, threads=settings.threads)
    return SpandrelTorch(state, device=settings.device, precision=precision, threads=settings.threads)


def _is_compact(dimensions: dict[str, int]) -> bool:
    from panelworks.models.compact_openvino import is_compact

    return is_compact(set(dimensions), dimensions)


def _may_have_accelerator() -> bool:
    """Is there a device file of an NVIDIA driver, or a Mac (whose GPU needs none)?"""
    return Path("/dev/nvidiactl").exists() or Path("/System/Library/Frameworks/Metal.framework").exists()
