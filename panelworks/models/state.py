"""Reading weight files into named arrays, without running anything that lies in them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from panelworks.errors import Misconfigured

if TYPE_CHECKING:
    import torch

Arrays = dict[str, npt.NDArray[np.float32]]


def read_safetensors(path: Path) -> Arrays:
    """The tensors of a safetensors file as float32, without importing torch.

    Raises:
        Misconfigured: `weights_unreadable`.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return {name: value.astype(np.float32) for name, value in load_file(path).items()}
    except (SafetensorError, OSError, TypeError) as error:
        raise _unreadable(path, error) from error


def read_pickle(path: Path) -> "dict[str, torch.Tensor]":
    """The state dict of a .pth file, read with `weights_only`: no code of the file is run.

    Raises:
        Misconfigured: `weights_unreadable`.
    """
    import torch

    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
        for key in ("params_ema", "params", "state_dict"):
            if isinstance(content.get(key), dict):
                content = content[key]
                break
        return {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
    except TimeoutError:
        raise  # the task took too long; the file may be good
    except Exception as error:  # torch raises almost anything for a file that is none
        raise _unreadable(path, error) from error


def read_arrays(path: Path) -> Arrays:
    """The tensors of any weight file as float32 numpy arrays; torch is imported only for a .pth file.

    Raises:
        Misconfigured: `weights_unreadable`, `unsupported_model`.
    """
    from panelworks.models.ncnn import read_pair
    from panelworks.models.pair import is_pair

    if path.suffix == ".safetensors":
        return read_safetensors(path)
    if is_pair(path):
        return read_pair(path)
    return {name: value.float().numpy() for name, value in read_pickle(path).items()}


def blended(first: Arrays, second: Arrays, share: float) -> Arrays:
    """Weights between those of two networks of one shape: `share` of the first, the rest of the second.

    Raises:
        Misconfigured: `unsupported_model`, their shapes differ.
    """
    if {n: a.shape for n, a in first.items()} != {n: a.shape for n, a in second.items()}:
        raise Misconfigured("unsupported_model", "Only networks of one shape can be blended.")
    return {
        name: (np.float32(share) * array + np.float32(1 - share) * second[name]).astype(np.float32)
        for name, array in first.items()
    }


def _unreadable(path: Path, error: Exception) -> Misconfigured:
    return Misconfigured(
        "weights_unreadable", f"{path.name} is not a usable weight file ({type(error).__name__})."
    )
