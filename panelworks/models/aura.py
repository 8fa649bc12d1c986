"""AuraSR by fal: the network of the package `aura-sr`, with weights that Panelworks downloads and checks."""

import json
import threading
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import torch
from aura_sr import UnetUpsampler

from panelworks.domain.cards import ModelCard
from panelworks.errors import Invalid, Misconfigured, ResourceExhausted
from panelworks.models.gpu import free_device_memory
from panelworks.models.network import Network, Tensor
from panelworks.models.registry import card_for
from panelworks.models.torch_network import pick_device
from panelworks.models.weights import require_weights
from panelworks.settings import Settings

_SCALE: Final = 4
_MARGIN_PIXELS: Final = 8
_NOISE_CHANNELS: Final = 128
"""Length of the noise vector that the network starts from."""


def load_aura(card: ModelCard, settings: Settings) -> Network:
    """Load the network of a card. Its configuration is the card's part, a JSON file.

    Raises:
        Misconfigured: `unsupported_model`, `weights_missing`.
    """
    from safetensors.torch import load_file

    config = require_weights(card_for(card.parts[0]), settings)
    try:
        shape: dict[str, Any] = json.loads(config.read_text(encoding="utf-8"))
        upsampler = UnetUpsampler(**shape)
        upsampler.load_state_dict(load_file(require_weights(card, settings)), strict=True)
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise Misconfigured(
            "unsupported_model", f"{card.file} and {config.name} do not belong together."
        ) from error
    return AuraNetwork(upsampler, pick_device(settings.device), int(shape["input_image_size"]))


class AuraNetwork:
    """AuraSR's network. Each call starts from the same noise, so that results are reproducible."""

    scale = _SCALE
    channels = 3
    margin = _MARGIN_PIXELS
    alignment = 1
    precision = "fp32"

    def __init__(self, upsampler: UnetUpsampler, device: torch.device, window: int) -> None:
        self._device = device
        self._upsampler = upsampler.to(device).eval()
        self._turn = threading.Lock()  # the network uses torch's global random number generator
        self._devices = [device] if device.type == "cuda" else []
        self._noise = torch.randn(1, _NOISE_CHANNELS, generator=torch.Generator().manual_seed(0)).to(device)
        self.window: int | None = window
        self.device = device.type
        self.bytes = sum(value.nbytes for value in upsampler.state_dict().values())
        self.bytes_per_pixel = 4 * _SCALE**2 * 256

    def __call__(self, tiles: Tensor) -> Tensor:
        try:
            with torch.inference_mode(), self._turn, torch.random.fork_rng(self._devices):
                torch.manual_seed(0)
                source = torch.from_numpy(tiles).to(self._device)
                output = self._upsampler(lowres_image=source, noise=self._noise.expand(len(tiles), -1))
        except (RuntimeError, MemoryError) as error:
            if isinstance(error, torch.OutOfMemoryError | MemoryError):
                raise ResourceExhausted(
                    "out_of_memory", "There is too little memory for this tile."
                ) from error
            raise Invalid("network_failed", f"AuraSR failed ({type(error).__name__}).") from error
        return np.asarray(output.float().cpu().numpy(), dtype=np.float32)

    def adapt_to_page(self, samples: Iterable[Tensor]) -> Network:
        return self

    def free_memory(self) -> int:
        return free_device_memory(self._device)

    def close(self) -> None:
        self._upsampler.to("cpu")
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
