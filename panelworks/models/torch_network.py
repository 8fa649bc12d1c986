"""Networks of any architecture that spandrel knows, executed by torch on cuda, mps or cpu."""

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import torch
from spandrel import ImageModelDescriptor, ModelLoader

from panelworks.errors import Invalid, Misconfigured, PanelworksError, ResourceExhausted
from panelworks.models.gpu import free_device_memory
from panelworks.models.network import Network, Tensor
from panelworks.models.pooling import FixedPoolingNetwork, PoolingBlocks
from panelworks.settings import DeviceChoice

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)

TorchPrecision = Literal["fp32", "bf16", "fp16"]

DTYPES: Final[dict[TorchPrecision, torch.dtype]] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
_MARGIN_PIXELS: Final = 24
"""Context for deep networks, in source pixels. Their receptive field is larger, but its edge has little influence."""
_POOLING_ALIGNMENT: Final = 4
"""Real-CUGAN, the network with pooling, halves pictures twice."""
_TYPICAL_FEATURES: Final = 64
"""Channels inside most networks."""


def pick_device(choice: DeviceChoice) -> torch.device:
    """The requested device, or the best one for `auto`. A missing device falls back to the CPU with a warning."""
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if choice == "auto":
        choice = "cuda" if available["cuda"] else "mps" if available["mps"] else "cpu"
    if not available[choice]:
        logger.warning("device %s unavailable: using the cpu", choice)
        choice = "cpu"
    return torch.device(choice)


def fast_precision(device: torch.device) -> TorchPrecision:
    """The fastest precision of a device. Whether a network supports it is checked separately."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu" and _cpu_has_bf16():
        return "bf16"
    return "fp32"


class TorchNetwork:
    """A network loaded into torch. The same code runs on every device."""

    window: int | None = None

    def __init__(
        self,
        state: "Mapping[str, torch.Tensor]",
        *,
        device: torch.device,
        precision: TorchPrecision,
        threads: int = 0,
        compiled: bool = False,
    ) -> None:
        """Load a state dict.

        Raises:
            Misconfigured: `unsupported_model`, spandrel does not know the architecture, or the network does not
                turn a picture into a picture.
            ResourceExhausted: `out_of_memory`, the device has too little free memory.
        """
        if threads:
            torch.set_num_threads(threads)
        descriptor = identify_network(state)
        if not isinstance(descriptor, ImageModelDescriptor) or descriptor.input_channels not in (1, 3):
            raise Misconfigured("unsupported_model", "The network does not turn one picture into another.")
        if (precision == "fp16" and not descriptor.supports_half) or (
            precision == "bf16" and not descriptor.supports_bfloat16
        ):
            precision = "fp32"
        self._device, self._dtype = device, DTYPES[precision]
        self.bytes = sum(value.nbytes for value in descriptor.model.state_dict().values())
        self._refuse_if_full()
        try:
            descriptor.to(device, self._dtype).eval()
            descriptor.model.to(memory_format=torch.channels_last)
        except RuntimeError as error:
            raise self._classify(error) from error
        self._pooling = PoolingBlocks(descriptor.model)
        if compiled:
            descriptor.model.compile(dynamic=False)
        self._descriptor = descriptor
        self.scale = int(descriptor.scale)
        self.channels = int(descriptor.input_channels)
        self.margin = _MARGIN_PIXELS
        self.alignment = max(
            descriptor.size_requirements.multiple_of, _POOLING_ALIGNMENT if self._pooling else 1
        )
        self.device = device.type
        self.precision: str = precision
        self.bytes_per_pixel = 2 * _TYPICAL_FEATURES * self.scale**2 * self._dtype.itemsize

    def __call__(self, tiles: Tensor) -> Tensor:
        source = torch.from_numpy(tiles)
        try:
            if self._device.type == "cuda":
                source = source.pin_memory()
            moved = source.to(self._device, self._dtype, non_blocking=True)
            with torch.inference_mode():
                output = self._descriptor(moved.contiguous(memory_format=torch.channels_last))
        except (RuntimeError, MemoryError) as error:
            raise self._classify(error) from error
        return np.asarray(output.float().cpu().numpy(), dtype=np.float32)

    def adapt_to_page(self, samples: Iterable[Tensor]) -> Network:
        if not self._pooling:
            return self
        return FixedPoolingNetwork(self, self._pooling, self._pooling.measure(self, samples))

    def free_memory(self) -> int:
        return free_device_memory(self._device)

    def close(self) -> None:
        self._descriptor.model.to("cpu")
        del self._descriptor
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _refuse_if_full(self) -> None:
        """Check the free memory before the weights are moved to the device."""
        if self._device.type == "cuda" and self.bytes > (free := free_device_memory(self._device)):
            raise ResourceExhausted(
                "out_of_memory",
                f"The network needs {self.bytes / 2**20:.0f} MiB; {free / 2**20:.0f} are free on the device.",
            )

    def _classify(self, error: Exception) -> PanelworksError:
        """Classify an error: after out of memory the page is tried with smaller tiles, else by the fallbacks."""
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or "memory" in str(error).lower():
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            return ResourceExhausted(
                "out_of_memory", f"The {self._device.type} has too little memory for this tile."
            )
        return Invalid(
            "network_failed", f"The network failed on the {self._device.type} ({type(error).__name__})."
        )


def identify_network(state: "Mapping[str, torch.Tensor]") -> object:
    """Spandrel's descriptor of the network in a state dict.

    Raises:
        Misconfigured: `unsupported_model`.
    """
    try:
        return ModelLoader(device="cpu").load_from_state_dict(dict(state))
    except TimeoutError:
        raise  # the task timed out; the file may be good
    except Exception as error:  # spandrel and torch raise many kinds for an unknown state dict
        raise Misconfigured("unsupported_model", "The weight file contains no known network.") from error


def _cpu_has_bf16() -> bool:
    capabilities = torch.backends.cpu.get_cpu_capability()
    return "AMX" in capabilities or bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
