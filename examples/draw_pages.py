"""Draw the two sample pages of the demonstration: one in colour, one with screentone.

    python examples/draw_pages.py FONT.otf

Everything is drawn four times larger and then reduced. The committed pages are lettered in Comic Neue (OFL).
"""

import math
import sys
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFont

ZOOM = 4
SIZE = (620, 880)
INK = (16, 14, 24)
Colour = tuple[int, int, int]


class Panel:
    """One framed picture of a page, drawn in page coordinates of a 620x880 sheet."""

    def __init__(self, page: Image.Image, box: tuple[int, int, int, int], font: str) -> None:
        self.page, self.box, self.font = page, box, font
        left, top, right, bottom = box
        self.image = Image.new("RGB", ((right - left) * ZOOM, (bottom - top) * ZOOM))
        self.draw = ImageDraw.Draw(self.image)

    def at(self, *values: float) -> list[float]:
        """Convert page coordinates (x, y, x, y, ...) to pixels of this panel."""
        return [(value - self.box[index % 2]) * ZOOM for index, value in enumerate(values)]

    def sky(self, upper: Colour, lower: Colour) -> None:
        """Draw a vertical gradient over the whole panel."""
        mix = np.linspace(0, 1, self.image.height)[:, None, None]
        sky = np.asarray(upper) * (1 - mix) + np.asarray(lower) * mix
        rows = np.repeat(np.rint(sky).astype(np.uint8), self.image.width, axis=1)
        self.image.paste(Image.fromarray(rows))

    def shape(self, points: list[float], fill: Colour, line: float = 1.6) -> None:
        corners = self.at(*points)
        self.draw.polygon(corners, fill=fill)
        self.draw.line([*corners, *corners[:4]], fill=INK, width=round(line * ZOOM), joint="curve")

    def disc(self, x: float, y: float, rx: float, ry: float, fill: Colour, line: float = 1.6) -> None:
        self.draw.ellipse(
            self.at(x - rx, y - ry, x + rx, y + ry), fill=fill, outline=INK, width=round(line * ZOOM)
        )

    def stroke(self, points: list[float], line: float) -> None:
        self.draw.line(self.at(*points), fill=INK, width=max(1, round(line * ZOOM)), joint="curve")

    def say(self, x: float, y: float, text: str, tail: tuple[float, float], size: int = 13) -> None:
        """Draw a balloon centred on (x, y) that points to `tail`."""
        font = ImageFont.truetype(self.font, size * ZOOM)
        cx, cy = self.at(x, y)
        box = self.draw.multiline_textbbox(
            (cx, cy), text, font=font, anchor="mm", align="center", spacing=ZOOM
        )
        rx, ry = (box[2] - box[0]) / 2 * 1.32 + 6 * ZOOM, (box[3] - box[1]) / 2 * 1.45 + 6 * ZOOM
        tx, ty = self.at(*tail)
        side = 9 * ZOOM
        for grow, colour in ((1.6 * ZOOM, INK), (0.0, (255, 255, 255))):
            self.draw.polygon([(cx - side - grow, cy), (cx + side + grow, cy), (tx, ty + grow)], fill=colour)
            self.draw.ellipse((cx - rx - grow, cy - ry - grow, cx + rx + grow, cy + ry + grow), fill=colour)
        self.draw.multiline_text(
            (cx, cy), text, font=font, anchor="mm", align="center", spacing=ZOOM, fill=INK
        )

    def cat(self, x: float, y: float, fur: Colour, size: float = 1.0) -> None:
        """Draw a sitting cat with its feet at (x, y)."""
        s = size
        self.stroke(
            [x + 30 * s, y - 8 * s, x + 48 * s, y - 20 * s, x + 46 * s, y - 48 * s, x + 56 * s, y - 60 * s],
            9 * s,
        )
        self.disc(x, y - 30 * s, 34 * s, 34 * s, fur)
        for side in (-1, 1):
            self.shape(
                [x + side * 30 * s, y - 78 * s, x + side * 27 * s, y - 112 * s, x + side * 6 * s, y - 92 * s],
                fur,
            )
        self.disc(x, y - 76 * s, 32 * s, 26 * s, fur)
        for side in (-1, 1):
            self.disc(x + side * 13 * s, y - 80 * s, 7 * s, 9 * s, (250, 244, 190), 1.2)
            self.disc(x + side * 12 * s, y - 79 * s, 2 * s, 7 * s, INK, 0.5)
            for whisker in (-5, 0, 5):
                self.stroke([x + side * 14 * s, y - 64 * s, x + side * 46 * s, y + (whisker - 66) * s], 0.7)
        self.shape([x - 4 * s, y - 68 * s, x + 4 * s, y - 68 * s, x, y - 63 * s], (226, 120, 130), 0.8)
        self.stroke([x - 9 * s, y - 58 * s, x, y - 63 * s, x + 9 * s, y - 58 * s], 1.2)

    def finish(self) -> None:
        left, top, right, bottom = (side * ZOOM for side in self.box)
        self.page.paste(self.image, (left, top))
        ImageDraw.Draw(self.page).rectangle((left, top, right, bottom), outline=INK, width=round(2.6 * ZOOM))


def roofs(panel: Panel, random: Random, horizon: float, walls: list[Colour]) -> None:
    """Draw a row of houses with lit windows along the bottom of a panel."""
    x = panel.box[0] - 20.0
    while x < panel.box[2]:
        width, height = random.uniform(50, 90), random.uniform(50, 120)
        top = horizon - height
        panel.shape([x, 900, x, top, x + width, top, x + width, 900], random.choice(walls))
        panel.shape(
            [x - 5, top, x + width / 2, top - random.uniform(20, 45), x + width + 5, top],
            random.choice(walls),
        )
        for row in range(2):
            for column in range(2):
                wx, wy = x + width * (0.2 + 0.4 * column), top + 14 + 34 * row
                panel.shape([wx, wy, wx + 13, wy, wx + 13, wy + 18, wx, wy + 18], (255, 214, 110), 1.2)
                panel.stroke([wx + 6.5, wy, wx + 6.5, wy + 18], 0.8)
        x += width + random.uniform(-2, 10)


def moon_and_stars(panel: Panel, random: Random, x: float, y: float, radius: float) -> None:
    panel.disc(x, y, radius, radius, (252, 240, 200), 1.2)
    for dx, dy, r in ((-0.35, -0.2, 0.2), (0.3, 0.25, 0.26), (0.1, -0.5, 0.12)):
        panel.disc(x + dx * radius, y + dy * radius, r * radius, r * radius, (232, 214, 168), 0.7)
    for _ in range(30):
        sx, sy = random.uniform(panel.box[0], panel.box[2]), random.uniform(panel.box[1], y + radius)
        r = random.uniform(0.5, 1.6)
        if math.hypot(sx - x, sy - y) > radius + 6:
            panel.draw.ellipse(panel.at(sx - r, sy - r, sx + r, sy + r), fill=(255, 255, 240))


def draw_colour_page(font: str) -> Image.Image:
    """Draw the page in colour, four times larger than its final size."""
    random = Random(5)
    page = Image.new("RGB", (SIZE[0] * ZOOM, SIZE[1] * ZOOM), "white")
    first = Panel(page, (24, 24, 596, 330), font)
    first.sky((24, 28, 78), (146, 88, 150))
    moon_and_stars(first, random, 470, 110, 56)
    roofs(first, random, 330, [(92, 64, 110), (120, 74, 96), (70, 60, 112), (150, 92, 84)])
    first.cat(210, 246, (58, 52, 74), 0.8)
    first.say(150, 84, "THE MOON IS LATE\nAGAIN TONIGHT...", (196, 150))
    first.finish()
    second = Panel(page, (24, 344, 300, 610), font)
    second.sky((250, 190, 96), (236, 106, 80))
    second.cat(160, 604, (58, 52, 74), 1.35)
    second.say(162, 388, "DID SOMEBODY\nSAY FISH?", (164, 440), 14)
    second.finish()
    third = Panel(page, (314, 344, 596, 610), font)
    third.sky((66, 150, 160), (190, 226, 200))
    for index in range(9):
        wave = 470 + index * 17
        points = [c for x in range(300, 620, 12) for c in (x, wave + 5 * math.sin(x / 17 + index * 1.7))]
        third.stroke(points, 1.4)
    third.shape([360, 520, 560, 520, 520, 570, 396, 570], (176, 72, 60), 2)
    third.shape([456, 516, 456, 392, 540, 500], (246, 236, 214), 2)
    third.shape([448, 516, 448, 410, 380, 500], (250, 204, 90), 2)
    third.say(400, 380, "Wait for me!", (420, 440), 12)
    third.finish()
    fourth = Panel(page, (24, 624, 596, 856), font)
    fourth.sky((18, 20, 60), (60, 70, 140))
    moon_and_stars(fourth, random, 110, 720, 70)
    roofs(fourth, random, 880, [(40, 44, 90), (58, 52, 104)])
    fourth.cat(430, 842, (58, 52, 74), 1.0)
    fourth.cat(530, 846, (206, 130, 70), 0.8)
    fourth.say(300, 676, "IT WAS HERE THE WHOLE TIME.\nWE ONLY HAD TO LOOK UP.", (400, 760), 13)
    fourth.finish()
    return page


def apply_screentone(page: Image.Image) -> Image.Image:
    """Turn the colour page into ink: lines stay solid, tones become dots at 45 degrees."""
    tone = np.asarray(page.convert("L"), dtype=np.float32) / 255
    y, x = np.mgrid[: tone.shape[0], : tone.shape[1]].astype(np.float32)
    pitch = 5.2 * ZOOM
    u, v = (x + y) / math.sqrt(2), (x - y) / math.sqrt(2)
    threshold = (np.cos(2 * math.pi * u / pitch) + np.cos(2 * math.pi * v / pitch)) / 4 + 0.5
    dots = np.where(np.sqrt(tone) > 0.12 + 0.8 * threshold, 255, 0)
    inked = np.where(tone < 0.09, 0, np.where(tone > 0.9, 255, dots))
    return Image.fromarray(inked.astype(np.uint8))


def main() -> None:
    font = sys.argv[1]
    folder = Path(__file__).with_name("pages")
    folder.mkdir(exist_ok=True)
    colour = draw_colour_page(font)
    for name, page in (("colour", colour), ("screentone", apply_screentone(colour))):
        page.resize(SIZE, Image.Resampling.BOX).save(folder / f"{name}-page.png", optimize=True)


if __name__ == "__main__":
    main()
