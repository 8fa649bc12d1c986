"""The packages `realesrgan` and `gfpgan` as they are, made importable: the only place that knows of their trouble.

basicsr, which both need, imports `torchvision.transforms.functional_tensor`, gone since torchvision 0.17.
"""

import logging
import sys
import threading
import types
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from panelworks.domain.cards import CARDS, ModelCard
from panelworks.errors import Invalid, Misconfigured, PanelworksError, ResourceExhausted
from panelworks.models.weights import weights_path
from panelworks.pictures.picture import Pixels
from panelworks.settings import Settings

if TYPE_CHECKING:
    import torch


logger = logging.getLogger(__name__)

_TURN = threading.Lock()
"""The packages keep the page that they work on in their objects."""


def real_esrganer(card: ModelCard, settings: Settings, tile: int) -> Any:
    """A `RealESRGANer` over an official file.

    Raises:
        Misconfigured: `unsupported_model`, the package knows no network of this kind.
    """
    _make_importable()
    from basicsr.archs.rrdbnet_arch import RRDBNet
    from realesrgan import RealESRGANer
    from realesrgan.archs.srvgg_arch import SRVGGNetCompact

    path = weights_path(card, settings)
    state = _state(path)
    if card.architecture == "rrdb" or any(name.startswith("conv_first") for name in state):
        blocks = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("body."))
        scale = card.scale or 4
        network: Any = RRDBNet(
            num_in_ch=3, num_out_ch=3, num_feat=64, num_block=blocks, num_grow_ch=32, scale=scale
        )
    elif "body.0.weight" in state:
        last = max(int(name.split(".")[1]) for name in state)
        scale = round((state[f"body.{last}.weight"].shape[0] / 3) ** 0.5)
        network = SRVGGNetCompact(3, 3, 64, last // 2 - 1, scale, act_type="prelu")
    else:
        raise Misconfigured("unsupported_model", "The package realesrgan knows no network of this kind.")
    half = settings.device != "cpu" and _has_cuda()
    return RealESRGANer(
        scale=scale, model_path=str(path), model=network, tile=tile, tile_pad=10, pre_pad=0, half=half,
        device=None if half else "cpu",
    )  # fmt: skip


def enlarge(upsampler: Any, pixels: Pixels) -> Pixels:
    """HxWx3 RGB through `RealESRGANer.enhance`, which works in BGR.

    One page at a time: it keeps the page in itself. A tile that fails it only prints, and pastes the one before
    again; so the network's own failure is caught on its way.

    Raises:
        ResourceExhausted, Invalid: as it failed.
    """
    failures: list[Exception] = []
    network = upsampler.model

    def watched(tile: Any) -> Any:
        try:
            return network(tile)
        except Exception as error:
            failures.append(error)
            raise

    with _TURN:
        upsampler.model = watched
        try:
            output, _ = upsampler.enhance(np.ascontiguousarray(pixels[:, :, ::-1]))
        except Exception as error:  # noqa: BLE001 - whatever it makes of a failed tile
            failures.append(error)
        finally:
            upsampler.model = network
    if failures:
        raise _explained(failures[0], "realesrgan") from failures[0]
    return np.ascontiguousarray(np.asarray(output, dtype=np.uint8)[:, :, ::-1])


def gfpganer(card: ModelCard, settings: Settings) -> Any:
    """A `GFPGANer` over an official file.

    Raises:
        Transient, Misconfigured: the files of facexlib, which it works with, are not here.
    """
    _make_importable()
    _check_downloads(settings)
    from gfpgan import GFPGANer

    path = str(weights_path(card, settings))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # facexlib calls what torchvision deprecates
        return GFPGANer(
            model_path=path, upscale=1, arch="clean", channel_multiplier=2, device=_device(settings)
        )


def restore(restorer: Any, pixels: Pixels) -> Pixels:
    """HxWx3 RGB through `GFPGANer.enhance`."""
    with _TURN:
        try:
            _, _, output = restorer.enhance(np.ascontiguousarray(pixels[:, :, ::-1]), paste_back=True)
        except Exception as error:
            raise _explained(error, "gfpgan") from error
    return np.ascontiguousarray(np.asarray(output, dtype=np.uint8)[:, :, ::-1])


def _explained(error: Exception, package: str) -> PanelworksError:
    if isinstance(error, MemoryError) or "memory" in str(error).lower():
        return ResourceExhausted("out_of_memory", f"The package {package} ran out of memory.")
    return Invalid("network_failed", f"The package {package} failed ({type(error).__name__}).")


def _make_importable() -> None:
    """Offer the module that basicsr looks for, and import all that needs it."""
    name = "torchvision.transforms.functional_tensor"
    if name not in sys.modules:
        from torchvision.transforms import functional

        module = types.ModuleType(name)
        module.rgb_to_grayscale = functional.rgb_to_grayscale  # type: ignore[attr-defined]
        sys.modules[name] = module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they call what newer libraries deprecate
        import gfpgan
        import realesrgan
    for module in (realesrgan.utils, gfpgan.utils):
        module.print = _logged  # they print among our results


def _logged(*words: object, **_: object) -> None:
    logger.debug(" ".join(map(str, words)).strip())


def _check_downloads(settings: Settings) -> None:
    """Let facexlib take its files from where ours lie: by itself it fetches them unchecked."""
    import facexlib.detection
    import facexlib.parsing

    by_file = {card.file: card for card in CARDS.values()}

    def checked(url: str, **_: Any) -> str:
        return str(weights_path(by_file[url.rpartition("/")[2]], settings))

    facexlib.detection.load_file_from_url = checked
    facexlib.parsing.load_file_from_url = checked


def _state(path: Any) -> "dict[str, torch.Tensor]":
    from panelworks.models.weight_files import read_pickle

    return read_pickle(path)


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _device(settings: Settings) -> Any:
    from panelworks.models.torch_network import pick_device

    return pick_device(settings.device)
