"""The packages `realesrgan` and `gfpgan`, made importable, with checked weights and without output on stdout.

Both need basicsr, which imports `torchvision.transforms.functional_tensor`, removed in torchvision 0.17. Until
https://github.com/XPixelGroup/BasicSR/pull/624 is released, a module of that name is provided here, only when one of
the packages is used. Everything else goes through parameters and subclasses.
"""

import contextlib
import importlib
import io
import logging
import sys
import tempfile
import threading
import types
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np
import torch

from panelworks.domain.cards import CARDS, ModelCard
from panelworks.errors import Invalid, Misconfigured, PanelworksError, ResourceExhausted
from panelworks.models.torch_network import pick_device
from panelworks.models.weight_files import read_pickle
from panelworks.models.weights import require_weights
from panelworks.pictures.picture import Pixels
from panelworks.settings import Settings

logger = logging.getLogger(__name__)

FACEXLIB_FILES: Final = ("detection_Resnet50_Final.pth", "parsing_parsenet.pth")
"""Weights that GFPGANer's face helper loads; without them it downloads unchecked files."""
_PACKAGE_LOCK: Final = threading.Lock()
"""One page at a time: the packages store the page in their objects."""


class WatchedNetwork(torch.nn.Module):
    """A network that records its failures: RealESRGANer prints a failed tile and uses the previous one again."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network
        self.failures: list[Exception] = []

    def forward(self, tile: torch.Tensor) -> torch.Tensor:
        """NxCxHxW to the enlarged size."""
        try:
            result: torch.Tensor = self.network(tile)
        except Exception as error:
            self.failures.append(error)
            raise
        return result

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load the weights of the network; files know nothing of this wrapper."""
        return self.network.load_state_dict(state_dict, strict=strict, assign=assign)


def real_esrganer(card: ModelCard, settings: Settings, tile: int) -> Any:
    """A `RealESRGANer` with an official weight file.

    Args:
        card: The model.
        settings: For the device and the folders of weights.
        tile: Edge of a tile in source pixels; 0: no tiles.

    Raises:
        Misconfigured: `unsupported_model`, the package has no network of this kind.
    """
    make_importable()
    from basicsr.archs.rrdbnet_arch import RRDBNet
    from realesrgan import RealESRGANer
    from realesrgan.archs.srvgg_arch import SRVGGNetCompact

    path = require_weights(card, settings)
    state = read_pickle(path)
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
        raise Misconfigured("unsupported_model", "The package realesrgan has no network of this kind.")
    half = settings.device != "cpu" and torch.cuda.is_available()
    return RealESRGANer(
        scale=scale, model_path=str(path), model=WatchedNetwork(network), tile=tile, tile_pad=10, pre_pad=0, half=half,
        device=None if half else "cpu",
    )  # fmt: skip


def enlarge(upsampler: Any, pixels: Pixels) -> Pixels:
    """Enlarge HxWx3 RGB with `RealESRGANer.enhance`, which works in BGR.

    Args:
        upsampler: From `real_esrganer`.
        pixels: HxWx3 uint8.

    Raises:
        ResourceExhausted, Invalid: a tile failed.
    """
    network: WatchedNetwork = upsampler.model
    with _PACKAGE_LOCK, _log_output():
        network.failures.clear()
        try:
            output, _ = upsampler.enhance(np.ascontiguousarray(pixels[:, :, ::-1]))
        except Exception as error:  # noqa: BLE001 - the package raises many kinds after a failed tile
            network.failures.append(error)
        failures = list(network.failures)
    if failures:
        raise _classify(failures[0], "realesrgan") from failures[0]
    return np.ascontiguousarray(np.asarray(output, dtype=np.uint8)[:, :, ::-1])


def gfpganer(card: ModelCard, settings: Settings) -> Any:
    """A `GFPGANer` with an official weight file.

    Its own constructor loads the files of facexlib from a fixed folder below the working directory, and downloads
    missing ones. The subclass does the same with our checked files.

    Raises:
        Misconfigured: the files of facexlib are not available.
    """
    make_importable()
    from facexlib.utils.face_restoration_helper import FaceRestoreHelper
    from gfpgan import GFPGANer
    from gfpgan.archs.gfpganv1_clean_arch import GFPGANv1Clean

    class CheckedGFPGANer(GFPGANer):  # type: ignore[misc] # the package has no types
        def __init__(self, state: Mapping[str, torch.Tensor], device: torch.device, folder: str) -> None:
            self.upscale, self.bg_upsampler, self.device = 1, None, device
            self.face_helper = FaceRestoreHelper(
                1, face_size=512, crop_ratio=(1, 1), det_model="retinaface_resnet50", save_ext="png",
                use_parse=True, device=device, model_rootpath=folder,
            )  # fmt: skip
            network = GFPGANv1Clean(
                out_size=512, num_style_feat=512, channel_multiplier=2, decoder_load_path=None,
                fix_decoder=False, num_mlp=8, input_is_latent=True, different_w=True, narrow=1, sft_half=True,
            )  # fmt: skip
            network.load_state_dict(state, strict=True)
            self.gfpgan = network.eval().to(device)

    state, device = read_pickle(require_weights(card, settings)), pick_device(settings.device)
    with _PACKAGE_LOCK, _facexlib_folder(settings) as folder, warnings.catch_warnings(), _log_output():
        warnings.simplefilter("ignore")  # facexlib calls functions that torchvision deprecates
        return CheckedGFPGANer(state, device, folder)


def restore(restorer: Any, pixels: Pixels) -> Pixels:
    """Restore the faces of HxWx3 RGB with `GFPGANer.enhance`, which works in BGR.

    Args:
        restorer: From `gfpganer`.
        pixels: HxWx3 uint8.

    Raises:
        ResourceExhausted, Invalid: a network failed.
    """
    with _PACKAGE_LOCK, _log_output():
        try:
            _, _, output = restorer.enhance(np.ascontiguousarray(pixels[:, :, ::-1]), paste_back=True)
        except Exception as error:
            raise _classify(error, "gfpgan") from error
    return np.ascontiguousarray(np.asarray(output, dtype=np.uint8)[:, :, ::-1])


def _classify(error: Exception, package: str) -> PanelworksError:
    if isinstance(error, MemoryError) or "memory" in str(error).lower():
        return ResourceExhausted("out_of_memory", f"The package {package} ran out of memory.")
    return Invalid("network_failed", f"The package {package} failed ({type(error).__name__}).")


def make_importable() -> None:
    """Provide the module that basicsr imports, then import the packages."""
    name = "torchvision.transforms.functional_tensor"
    if name not in sys.modules:
        from torchvision.transforms import functional

        module = types.ModuleType(name)
        vars(module)["rgb_to_grayscale"] = functional.rgb_to_grayscale
        sys.modules[name] = module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they call functions that newer libraries deprecate
        importlib.import_module("gfpgan")
        importlib.import_module("realesrgan")


@contextlib.contextmanager
def _facexlib_folder(settings: Settings) -> Iterator[str]:
    """A folder with links to our checked files, under the names that facexlib expects."""
    by_file = {card.file: card for card in CARDS.values()}
    with tempfile.TemporaryDirectory(prefix="panelworks-facexlib-") as folder:
        for file in FACEXLIB_FILES:
            Path(folder, file).symlink_to(require_weights(by_file[file], settings).resolve())
        yield folder


class _ThreadOutput(io.TextIOBase):
    """Logs what one thread prints; the output of all other threads goes where it went before."""

    def __init__(self, others: TextIO) -> None:
        self._others = others
        self._thread = threading.get_ident()

    def write(self, text: str) -> int:
        if threading.get_ident() != self._thread:
            return self._others.write(text)
        if line := text.strip():
            logger.debug("%s", line)
        return len(text)

    def flush(self) -> None:
        if not self._others.closed:
            self._others.flush()

    @property
    def buffer(self) -> Any:
        """For bytes, which the packages do not print."""
        return self._others.buffer


def _log_output() -> contextlib.redirect_stdout[_ThreadOutput]:
    """Log what the packages print: stdout is for our results."""
    return contextlib.redirect_stdout(_ThreadOutput(sys.stdout))
