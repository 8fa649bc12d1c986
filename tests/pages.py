"""Small pages for tests, generated from seeds; and the sample pages of the repository."""

import io
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

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


def psnr(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> float:
    """Peak signal-to-noise ratio of 8-bit values, in dB."""
    error = np.mean((first.astype(np.float64) - second.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))
