"""Small pages and networks for tests, generated from seeds; and the sample pages of the repository."""

import io
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors.torch import save_file
from spandrel.architectures.Compact import Compact

from panelworks.pictures import Picture
from training.drawings import Look, draw_page

SAMPLE_PAGES = sorted((Path(__file__).parents[1] / "examples" / "pages").glob("*.png"))
"""The two pages of the demonstration, one in colour and one with screentone, drawn by examples/draw_pages.py."""


def drawn(width: int = 160, height: int = 200, look: Look = "colour", seed: int = 1) -> Picture:
    """A generated page; gray for the looks without colour."""
    pixels = np.asarray(draw_page((width, height), Random(seed), look))
    return Picture(pixels if look == "colour" else np.ascontiguousarray(pixels[:, :, :1]))


def file_of(image: Image.Image, format: str = "PNG", **parameters: Any) -> bytes:
    """An image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, format, **parameters)
    return buffer.getvalue()


def write_page(path: Path, width: int = 160, height: int = 200, look: Look = "colour", seed: int = 1) -> Path:
    """Write a drawn page as a PNG file; returns its path."""
    picture = drawn(width, height, look, seed)
    path.write_bytes(file_of(Image.fromarray(picture.pixels.squeeze())))
    return path


def random_compact(path: Path, *, scale: int = 2, strength: float = 0.02, seed: int = 3) -> Path:
    """Write a weight file of a compact network whose random weights change a picture by `strength`; returns its path.

    Near zero it repeats pixels; at 1 it draws garbage.
    """
    torch.manual_seed(seed)
    network = Compact(num_feat=8, num_conv=2, upscale=scale)
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    last = max(int(name.split(".")[1]) for name in state)
    state[f"body.{last}.weight"] = state[f"body.{last}.weight"] * strength
    state[f"body.{last}.bias"] = state[f"body.{last}.bias"] * strength
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"params": state}, path)
    return path


def psnr(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> float:
    """Peak signal-to-noise ratio of 8-bit values, in dB."""
    error = np.mean((first.astype(np.float64) - second.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))
