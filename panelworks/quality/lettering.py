"""Finding lettering: rows of small marks of similar height on an even ground, with the balloon or caption around them."""

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np

from panelworks.pictures.picture import Pixels

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels."""
_MIN_MARK_PIXELS: Final = 4
_MAX_MARK_PIXELS: Final = 48
"""Height of letters on a page whose shorter side has 1000 pixels."""
_MIN_MARKS: Final = 5
"""Fewer marks side by side are not lettering."""
_MIN_GROUND_SHARE: Final = 0.45
_MAX_SPREAD: Final = 0.45
"""Maximum deviation of the heights of letters in a block, as a share of their median."""
_MAX_BALLOON_SHARE: Final = 0.2
"""A larger even area around lettering is the paper of the page."""
_GROUND_RANGE_LEVELS: Final = 40


def find_lettering(luma: Pixels) -> list[Box]:
    """The blocks of lettering of an HxW page, each with its balloon if there is one."""
    if min(luma.shape) < 2 * _MIN_MARK_PIXELS:
        return []
    blocks: list[Box] = []
    for turned in (luma, cv2.bitwise_not(luma)):  # dark on light, then light on dark
        marks = _find_marks(np.asarray(turned, dtype=np.uint8))
        blocks += [
            _with_balloon(np.asarray(turned, dtype=np.uint8), box) for box in _group(marks, luma.shape)
        ]
    return blocks


def _find_marks(luma: Pixels) -> list[tuple[int, int, int, int]]:
    """Left, top, width and height of dark connected marks of the size of letters."""
    window = 2 * _MAX_MARK_PIXELS + 1
    ink = cv2.adaptiveThreshold(luma, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY_INV, window, 30)
    _, _, found, _ = cv2.connectedComponentsWithStats(ink, connectivity=8)
    left, top, width, height, area = (found[1:, column] for column in range(5))
    usable = (
        (height >= _MIN_MARK_PIXELS)
        & (height <= _MAX_MARK_PIXELS)
        & (width <= 2.5 * height)
        & (width >= 0.1 * height)
        & (area >= 0.12 * width * height)
    )
    columns = zip(left[usable], top[usable], width[usable], height[usable], strict=True)
    return [(int(x), int(y), int(w), int(h)) for x, y, w, h in columns]


def _group(marks: Sequence[tuple[int, int, int, int]], shape: tuple[int, ...]) -> list[Box]:
    """Blocks of marks that are close to each other and of similar height."""
    plane = np.zeros(shape[:2], dtype=np.uint8)
    for x, y, width, height in marks:
        reach = round(0.6 * height)
        cv2.rectangle(
            plane, (x - reach, y - reach // 2), (x + width + reach, y + height + reach // 2), 255, -1
        )
    _, labels = cv2.connectedComponents(plane)
    members: dict[int, list[tuple[int, int, int, int]]] = {}
    for mark in marks:
        members.setdefault(int(labels[mark[1] + mark[3] // 2, mark[0] + mark[2] // 2]), []).append(mark)
    return [_bounds(group) for group in members.values() if _is_lettering(group)]


def _is_lettering(group: Sequence[tuple[int, int, int, int]]) -> bool:
    if len(group) < _MIN_MARKS:
        return False
    heights = np.array([mark[3] for mark in group])
    middle = float(np.median(heights))
    alike = heights[np.abs(heights - middle) <= _MAX_SPREAD * middle]
    if len(alike) < 0.7 * len(group):
        return False
    left, top, right, bottom = _bounds(group)
    covered = sum(mark[2] * mark[3] for mark in group) / max((right - left) * (bottom - top), 1)
    rows = max(1.0, (bottom - top) / (1.6 * middle))
    return 0.25 <= covered <= 1.1 and len(group) / rows >= 2 and (right - left) >= 2.5 * middle


def _bounds(group: Sequence[tuple[int, int, int, int]]) -> Box:
    return (
        float(min(mark[0] for mark in group)), float(min(mark[1] for mark in group)),
        float(max(mark[0] + mark[2] for mark in group)), float(max(mark[1] + mark[3] for mark in group)),
    )  # fmt: skip


def _with_balloon(luma: Pixels, block: Box) -> Box:
    """The even light area that surrounds a block, if it is not the paper of the page; otherwise the block."""
    left, top, right, bottom = (int(side) for side in block)
    inside = luma[top:bottom, left:right]
    ground = int(np.percentile(inside, 90))
    even = inside >= ground - _GROUND_RANGE_LEVELS
    if float(even.mean()) < _MIN_GROUND_SHARE:
        return block
    seeds = np.argwhere(inside >= ground - 5)
    if not len(seeds):
        return block
    reach_x, reach_y = 2 * (right - left), 2 * (bottom - top)
    x, y = max(0, left - reach_x), max(0, top - reach_y)
    around = np.ascontiguousarray(luma[y : bottom + reach_y, x : right + reach_x])
    row, column = seeds[len(seeds) // 2]
    mask = np.zeros((around.shape[0] + 2, around.shape[1] + 2), dtype=np.uint8)
    seed = (int(column) + left - x, int(row) + top - y)
    low = int(around[seed[1], seed[0]]) - (ground - _GROUND_RANGE_LEVELS)
    flags = 4 | (255 << 8) | cv2.FLOODFILL_FIXED_RANGE | cv2.FLOODFILL_MASK_ONLY
    _, _, _, (flood_left, flood_top, width, height) = cv2.floodFill(
        around, mask, seed, (0,), (max(1, low),), (255,), flags
    )
    if (
        width * height > _MAX_BALLOON_SHARE * luma.size
        or width >= around.shape[1]
        or height >= around.shape[0]
    ):
        return block
    found = (x + flood_left, y + flood_top, x + flood_left + width, y + flood_top + height)
    return (
        min(block[0], found[0]), min(block[1], found[1]),
        max(block[2], found[2]), max(block[3], found[3]),
    )  # fmt: skip
