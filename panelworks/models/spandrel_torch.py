"""Any architecture that spandrel loads, run by torch on cuda, mps or cpu."""

import logging
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from spandrel import ImageModelDescriptor, ModelLoader

from panelworks.errors import Invalid, Misconfigured, PanelworksError, ResourceExhausted
from panelworks.models.network import Tensor
from panelworks.settings import DeviceChoice

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)

_MARGIN: Final = 24
"""Context for deep networks, in source pixels. Their reach is wider, but falls off quickly."""


def pick_device(choice: DeviceChoice) -> torch.device:
    """The device asked for, or the best there is; a missing one falls back to the CPU, said in the log."""
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if choice == "auto":
        choice = "cuda" if available["cuda"] else "mps" if available["mps"] else "cpu"
    if not available[choice]:
        logger.warning("device %s is not available: falling back to the cpu", choice)
        choice = "cpu"
    return torch.device(choice)


class SpandrelTorch:
    """A network held by torch."""

    def __init__(
        self, state: "Mapping[str, torch.Tensor]", *, device: DeviceChoice, precision: str, threads: int
    ) -> None:
        """Load a state dict.

        Raises:
            Misconfigured: `unsupported_model`, spandrel does not know the architecture or it is
                not one that turns a picture into a picture.
        """
        if threads:
            torch.set_num_threads(threads)
        try:
            descriptor = ModelLoader(device="cpu").load_from_state_dict(dict(state))
        except TimeoutError:
            raise  # the task took too long; the file may be good
        except Exception as error:  # spandrel and torch raise many kinds for a state dict they do not know
            raise Misconfigured(
                "unsupported_model", "The weight file holds no network that is known."
            ) from error
        if not isinstance(descriptor, ImageModelDescriptor) or descriptor.input_channels not in (1, 3):
            raise Misconfigured("unsupported_model", "The network does not turn one picture into another.")
        self._device = pick_device(device)
        self._half = precision == "auto" and self._device.type == "cuda" and descriptor.supports_half
        try:
            descriptor.to(self._device, torch.float16 if self._half else torch.float32).eval()
        except RuntimeError as error:
            raise self._explained(error) from error
        self._descriptor = descriptor
        self._descriptor.model.to(memory_format=torch.channels_last)
        self.scale = int(descriptor.scale)
        self.channels = int(descriptor.input_channels)
        self.margin = _MARGIN
        self.device = self._device.type

    def __call__(self, tile: Tensor) -> Tensor:
        source = torch.from_numpy(tile).to(self._device, memory_format=torch.channels_last)
        try:
            with torch.inference_mode():
                output = self._descriptor(source.half() if self._half else source)
        except (RuntimeError, MemoryError) as error:
            raise self._explained(error) from error
        return np.asarray(output.float().cpu().numpy(), dtype=np.float32)

    def _explained(self, error: Exception) -> PanelworksError:
        """Out of memory takes smaller tiles, anything else that torch says takes the fallback."""
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or "memory" in str(error).lower():
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            return ResourceExhausted(
                "out_of_memory", f"The {self._device.type} has too little memory for this tile."
            )
        return Invalid(
            "network_failed", f"The network failed on the {self._device.type} ({type(error).__name__})."
        )
