"""Contact sheets of smart crops: where the crop is in each page, and the faces and the lettering that were found.

    python -m benchmarks.crops PAGES... --out sheets

Pages are pictures or books (CBZ). Each sheet has one aspect ratio: the page with the kept part bright, faces in red and lettering
in blue. The table counts the detected parts that the crops keep, cut and lose, beside crops from the middle of the page.
"""

import argparse
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from PIL import Image, ImageDraw

from panelworks.pictures import Picture, decode
from panelworks.pictures.parallel import stop_threads_of_opencv
from panelworks.pictures.picture import to_image
from panelworks.pictures.resample import fit_size, resize
from panelworks.quality.focus import Interest, Part, choose_crop, find_interest
from panelworks.settings import get_settings

RATIOS: Final = {"square": (1, 1), "wide": (16, 9), "tall": (2, 3)}
_CELL: Final = (300, 330)
_COLUMNS: Final = 6
_COLOURS: Final = {"face": (255, 0, 0), "lettering": (0, 90, 255)}
Crop = tuple[int, int, int, int]
"""Left, top, width, height."""


def main() -> None:
    """Write the sheets and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pages", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("crops"))
    parser.add_argument("--limit", type=int, default=30)
    given = parser.parse_args()
    stop_threads_of_opencv()
    given.out.mkdir(parents=True, exist_ok=True)
    pages = list(_pages(given.pages, given.limit))
    found = [find_interest(picture) for _, picture in pages]
    print("ratio     crop     parts  kept  cut  lost")
    for name, ratio in RATIOS.items():
        cells = []
        counts = {"smart": [0, 0, 0], "middle": [0, 0, 0]}
        for (title, picture), interest in zip(pages, found, strict=True):
            size = crop_size(picture.size, ratio)
            left, top = choose_crop(interest, picture.size, size)
            middle = ((picture.width - size[0]) // 2, (picture.height - size[1]) // 2)
            for kind, corner in (("smart", (left, top)), ("middle", middle)):
                for part in interest.parts:
                    counts[kind][_fate(part, picture.size, (*corner, *size))] += 1
            cells.append(_cell(title, picture, interest, (left, top, *size)))
        _sheet(cells).save(given.out / f"{name}.png")
        for kind, (kept, cut, lost) in counts.items():
            print(f"{name:9} {kind:7}{kept + cut + lost:7}{kept:6}{cut:5}{lost:6}")


def crop_size(size: tuple[int, int], ratio: tuple[int, int]) -> tuple[int, int]:
    """The largest width and height of a ratio in a page of `size`."""
    scale = min(whole / side for side, whole in zip(ratio, size, strict=True))
    return (min(size[0], round(ratio[0] * scale)), min(size[1], round(ratio[1] * scale)))


def _pages(paths: list[Path], limit: int) -> Iterator[tuple[str, Picture]]:
    left = limit
    for path in paths:
        for name, read in _files(path):
            if left == 0:
                return
            try:
                picture = decode(read(), get_settings()).picture
            except Exception as error:  # noqa: BLE001 # other files are left out
                print(f"{name}: {error}")
                continue
            left -= 1
            yield name, picture


def _files(path: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    if path.suffix != ".cbz":
        yield path.name, path.read_bytes
        return
    with zipfile.ZipFile(path) as book:
        for name in sorted(book.namelist()):
            if Path(name).suffix.lower() in (".png", ".jpg", ".webp"):
                yield f"{path.stem}/{name}", lambda name=name: book.read(name)  # type: ignore[misc]


def _fate(part: Part, size: tuple[int, int], crop: Crop) -> int:
    """0: kept, 1: cut, 2: lost."""
    left, top, right, bottom = (side * whole for side, whole in zip(part.box, size * 2, strict=True))
    width = min(right, crop[0] + crop[2]) - max(left, crop[0])
    height = min(bottom, crop[1] + crop[3]) - max(top, crop[1])
    share = max(width, 0) * max(height, 0) / max((right - left) * (bottom - top), 1e-6)
    return 0 if share > 0.99 else 2 if share < 0.01 else 1


def _cell(title: str, picture: Picture, interest: Interest, crop: Crop) -> Image.Image:
    room = (_CELL[0] - 6, _CELL[1] - 26)
    size = fit_size(picture.size, room)
    image = to_image(resize(picture, size, "bilinear")).convert("RGB")
    scale = size[0] / picture.width
    box = [round(side * scale) for side in (crop[0], crop[1], crop[0] + crop[2], crop[1] + crop[3])]
    dark = np.asarray(image) // 3
    kept = np.asarray(image)[box[1] : box[3], box[0] : box[2]]
    dark[box[1] : box[3], box[0] : box[2]] = kept
    for part in interest.parts:
        left, top, right, bottom = (
            round(side * whole) for side, whole in zip(part.box, size * 2, strict=True)
        )
        cv2.rectangle(dark, (left, top), (right, bottom), _COLOURS[part.kind], 1)
    cell = Image.new("RGB", _CELL, "white")
    cell.paste(Image.fromarray(dark), (3, 22))
    ImageDraw.Draw(cell).text((3, 4), title[-44:], fill="black")
    return cell


def _sheet(cells: list[Image.Image]) -> Image.Image:
    rows = -(-len(cells) // _COLUMNS)
    sheet = Image.new("RGB", (_CELL[0] * _COLUMNS, _CELL[1] * rows), "white")
    for number, cell in enumerate(cells):
        sheet.paste(cell, (number % _COLUMNS * _CELL[0], number // _COLUMNS * _CELL[1]))
    return sheet


if __name__ == "__main__":
    main()
