"""Procedural comic drawings: panels, ink, flat colour, screentone and lettering.

They are clean edges, tones and letters without licence restrictions for the training, and the sample pages of the demo.
Everything is drawn at twice the size and reduced, so that lines are anti-aliased.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Look = Literal["colour", "screentone", "ink"]
Points = list[tuple[float, float]]
Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.floating]

SUPERSAMPLING = 2
WORDS = (  # noqa: SIM905 - words read better than a list of them
    "the moon is late tonight who left this door open we should not be here look out it was only "
    "a cat run faster the map was wrong again thank you for the tea nobody moves until dawn perfect "
    "listen can you hear the sea quiet they are coming what a lovely morning to fly away"
).split()


@dataclass(frozen=True)
class Pen:
    """The tools of a drawing."""

    draw: ImageDraw.ImageDraw
    random: Random
    look: Look
    fonts: tuple[Path, ...]

    def tint(self) -> Colour:
        """A fill colour: any colour on a colour page, a gray on a screentone page, paper or black in ink."""
        if self.look == "ink":
            return self.random.choice([(255, 255, 255), (255, 255, 255), (0, 0, 0)])
        if self.look == "screentone":
            level = self.random.choice([255, 255, 235, 200, 150, 90, 0])
            return (level, level, level)
        red, green, blue = (self.random.randint(0, 255) for _ in range(3))
        return (red, green, blue)

    def ink(self) -> Colour:
        """The colour of a line: black or almost black."""
        level = self.random.choice([0, 0, 0, 20, 40])
        return (level, level, level)


def draw_page(size: tuple[int, int], random: Random, look: Look, fonts: tuple[Path, ...] = ()) -> Image.Image:
    """Draw a page of `size` (width, height), RGB: a grid of panels with a scene and a balloon each."""
    width, height = (side * SUPERSAMPLING for side in size)
    page = Image.new("RGB", (width, height), "white")
    pen = Pen(ImageDraw.Draw(page), random, look, fonts)
    gutter = max(4, width // 60)
    top = gutter
    rows = random.randint(2, 3)
    for row in range(rows):
        bottom = round((row + 1) * (height - gutter) / rows)
        columns = random.randint(1, 3)
        for column in range(columns):
            left = round(gutter + column * (width - gutter) / columns)
            right = round((column + 1) * (width - gutter) / columns)
            if right - left > 8 and bottom - top > 8:
                _draw_panel(page, pen, (left, top, right, bottom))
        top = bottom + gutter
    return page.resize(size, Image.Resampling.BOX)


def _draw_panel(page: Image.Image, pen: Pen, box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = box
    size = (right - left, bottom - top)
    panel = Image.fromarray(_background(size, pen))
    inner = Pen(ImageDraw.Draw(panel), pen.random, pen.look, pen.fonts)
    for _ in range(pen.random.randint(3, 8)):
        _draw_shape(inner, size)
    if pen.look == "screentone" or pen.random.random() < 0.15:
        _lay_screentone(panel, pen)
        inner = Pen(ImageDraw.Draw(panel), pen.random, pen.look, pen.fonts)
    for _ in range(pen.random.randint(4, 14)):
        _draw_stroke(inner, size)
    if pen.random.random() < 0.5:
        _draw_hatching(inner, size)
    if pen.random.random() < 0.85:
        _draw_balloon(inner, size)
    page.paste(panel, (left, top))
    border = pen.random.randint(3, 8)
    pen.draw.rectangle(box, outline=(0, 0, 0), width=border)


def _background(size: tuple[int, int], pen: Pen) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """A flat field or a soft gradient between two tints, uint8 HxWx3."""
    width, height = size
    start, end = np.array(pen.tint(), float), np.array(pen.tint(), float)
    if pen.look == "ink":
        start = end = np.array([255.0, 255.0, 255.0])
    elif pen.random.random() < 0.4:
        end = start
    angle = pen.random.uniform(0, 2 * math.pi)
    x = np.linspace(-0.5, 0.5, width)[None, :] * math.cos(angle)
    y = np.linspace(-0.5, 0.5, height)[:, None] * math.sin(angle)
    mix = np.clip(x + y + 0.5, 0, 1)[..., None]
    return np.asarray(np.rint(start * (1 - mix) + end * mix), dtype=np.uint8)


def _draw_shape(pen: Pen, size: tuple[int, int]) -> None:
    width, height = size
    x, y = pen.random.uniform(0, width), pen.random.uniform(0, height)
    reach = pen.random.uniform(0.05, 0.4) * max(size)
    line = pen.random.randint(1, 9)
    if pen.random.random() < 0.5:
        box = (x - reach, y - reach * pen.random.uniform(0.4, 1), x + reach, y + reach)
        pen.draw.ellipse(box, fill=pen.tint(), outline=pen.ink(), width=line)
        return
    corners = pen.random.randint(3, 9)
    outline: Points = []
    for corner in range(corners):
        angle = 2 * math.pi * corner / corners + pen.random.uniform(-0.3, 0.3)
        radius = reach * pen.random.uniform(0.4, 1)
        outline.append((x + radius * math.cos(angle), y + radius * math.sin(angle)))
    pen.draw.polygon(outline, fill=pen.tint())
    pen.draw.line([*outline, outline[0]], fill=pen.ink(), width=line, joint="curve")


def _curve(random: Random, size: tuple[int, int]) -> Points:
    """A cubic Bezier across part of the panel, as 40 points."""
    width, height = size
    x, y = random.uniform(0, width), random.uniform(0, height)
    reach = random.uniform(0.1, 0.7) * max(size)
    anchors = [(x, y)] + [
        (x + random.uniform(-reach, reach), y + random.uniform(-reach, reach)) for _ in range(3)
    ]
    points: Points = []
    for step in range(40):
        t = step / 39
        weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
        points.append(
            (
                sum(w * a[0] for w, a in zip(weights, anchors, strict=True)),
                sum(w * a[1] for w, a in zip(weights, anchors, strict=True)),
            )
        )
    return points


def _draw_stroke(pen: Pen, size: tuple[int, int]) -> None:
    """Draw an ink stroke that is thick in the middle and thin at both ends, like that of a brush."""
    points = _curve(pen.random, size)
    thickest = pen.random.uniform(1.5, 9)
    colour = pen.ink() if pen.random.random() < 0.85 else pen.tint()
    for index, (start, end) in enumerate(pairwise(points)):
        swell = math.sin(math.pi * (index + 0.5) / len(points))
        pen.draw.line([start, end], fill=colour, width=max(1, round(thickest * swell)), joint="curve")


def _draw_hatching(pen: Pen, size: tuple[int, int]) -> None:
    width, height = size
    x, y = pen.random.uniform(0, width * 0.7), pen.random.uniform(0, height * 0.7)
    length, gap = pen.random.uniform(20, 120), pen.random.uniform(4, 12)
    angle = pen.random.uniform(0, math.pi)
    dx, dy = math.cos(angle) * length, math.sin(angle) * length
    for index in range(pen.random.randint(6, 25)):
        bx, by = x - math.sin(angle) * gap * index, y + math.cos(angle) * gap * index
        pen.draw.line([(bx, by), (bx + dx, by + dy)], fill=pen.ink(), width=pen.random.randint(1, 3))


def _lay_screentone(panel: Image.Image, pen: Pen) -> None:
    """Convert mid grays of some regions to dots at 45 degrees whose size follows the tone."""
    gray = np.asarray(panel.convert("L"), dtype=np.float32) / 255
    toned = Image.fromarray(_print_dots(gray, pen.random.uniform(6, 14)))
    mids = Image.fromarray((((gray > 0.08) & (gray < 0.97)) * 255).astype(np.uint8))
    panel.paste(toned.convert("RGB"), (0, 0), mids)


def screen_tones(pixels: Bytes, random: Random) -> Bytes:
    """Print an HxWx3 picture, uint8, in black dots at 45 degrees whose size follows its tones, as manga is printed.

    It is screened at twice its size and reduced, so that the dots are anti-aliased.
    """
    height, width = pixels.shape[:2]
    large = (width * SUPERSAMPLING, height * SUPERSAMPLING)
    gray = Image.fromarray(pixels).convert("L").resize(large, Image.Resampling.BILINEAR)
    dots = _print_dots(np.asarray(gray, dtype=np.float32) / 255, SUPERSAMPLING * random.uniform(3, 8))
    small = Image.fromarray(dots).resize((width, height), Image.Resampling.BOX)
    return np.repeat(np.asarray(small)[:, :, None], 3, axis=2)


def _print_dots(gray: Floats, pitch: float) -> Bytes:
    """Compare tones in [0, 1] with the threshold of a dot screen at 45 degrees; `pitch` pixels from dot to dot."""
    y, x = np.mgrid[: gray.shape[0], : gray.shape[1]].astype(np.float32)
    u, v = (x + y) / math.sqrt(2), (x - y) / math.sqrt(2)
    threshold = (np.cos(2 * math.pi * u / pitch) + np.cos(2 * math.pi * v / pitch)) / 4 + 0.5
    return np.where(gray > threshold, 255, 0).astype(np.uint8)


def _font(pen: Pen, height: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    if pen.fonts:
        return ImageFont.truetype(str(pen.random.choice(pen.fonts)), height)
    return ImageFont.load_default(height)


def _draw_balloon(pen: Pen, size: tuple[int, int]) -> None:
    width, height = size
    font = _font(pen, pen.random.randint(20, 46))
    lines = []
    for _ in range(pen.random.randint(1, 4)):
        words = " ".join(pen.random.choice(WORDS) for _ in range(pen.random.randint(1, 4)))
        lines.append(words.upper() if pen.random.random() < 0.7 else words)
    text = "\n".join(lines)
    x = pen.random.uniform(0.1, 0.5) * width
    y = pen.random.uniform(0.05, 0.5) * height
    left, top, right, bottom = pen.draw.multiline_textbbox((x, y), text, font=font, align="center")
    pad = (right - left) * 0.16 + 8
    pen.draw.ellipse(
        (left - pad, top - pad, right + pad, bottom + pad),
        fill="white",
        outline="black",
        width=pen.random.randint(2, 5),
    )
    pen.draw.multiline_text((x, y), text, font=font, fill="black", align="center")
