"""The parts of a page that have artifacts: JPEG blocks, banding, noise and print halftone, by the measures of each cell.

Cells are squares of 64 pixels. Neighbouring cells with the same artifact become one region.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from panelworks.domain.regions import ARTIFACT_KINDS, MAX_ARTIFACT_REGIONS, ArtifactKind, ArtifactRegion
from panelworks.pictures.encode import flatten_on_white
from panelworks.pictures.picture import Picture, Pixels
from panelworks.pictures.view import Floats
from panelworks.quality.content import measure_block_misfits
from panelworks.quality.edges import measure_block_grain
from panelworks.quality.patterns import WINDOW_SIDE_PIXELS, count_stair_runs, find_dotted_windows

CELL_PIXELS: Final = WINDOW_SIDE_PIXELS
"""Side of a cell in pixels of the source, a multiple of the 8 of JPEG blocks."""
_BAND_ROWS: Final = 16 * CELL_PIXELS
"""Rows that are measured at once, so that a long strip needs little memory."""
_MIN_AREA_CELLS: Final[dict[ArtifactKind, int]] = {"jpeg_blocks": 2, "banding": 2, "noise": 2, "halftone": 6}
"""Fewer neighbouring cells are an accident of the drawing, such as hatching in colour, except on a page of a few cells."""
_MAX_SMALL_GRID_CELLS: Final = 6
_MIN_FILL_SHARE: Final = 0.75
"""Minimum share of affected cells in a rectangle around neighbouring ones; below it, their rows are separate regions."""
Grid = npt.NDArray[np.float32]
"""Strength of an artifact in each cell, rows x columns, 0 where there is none."""


def find_artifact_regions(picture: Picture) -> tuple[ArtifactRegion, ...]:
    """Find the parts of a picture that have artifacts, largest first, at most `MAX_ARTIFACT_REGIONS`.

    Halftone is reported only where colour has dots: the screentone of a gray page is art.
    """
    paper = flatten_on_white(picture)
    grids = _measure_page(paper)
    found = [
        region
        for kind in ARTIFACT_KINDS
        for region in _merge_cells(kind, grids[kind], (paper.width, paper.height))
    ]
    return tuple(sorted(found, key=lambda one: -one.area * one.strength)[:MAX_ARTIFACT_REGIONS])


def _measure_page(paper: Picture) -> dict[ArtifactKind, Grid]:
    """The strength of each artifact in each cell of a page without transparency."""
    bands = [
        _measure_band(Picture(paper.pixels[top : top + _BAND_ROWS]))
        for top in range(0, paper.height, _BAND_ROWS)
    ]
    return {kind: np.concatenate([band[kind] for band in bands]) for kind in ARTIFACT_KINDS}


def _measure_band(band: Picture) -> dict[ArtifactKind, Grid]:
    luma = _pad(band.luma())
    cells = _grid_shape(luma)
    dotted = find_dotted_windows(_windows_of(luma, cells)).reshape(cells)
    jpeg, noise = _measure_jpeg(luma), _measure_noise(luma)
    noise[dotted] = 0
    dotted &= jpeg == 0  # blocks of colour repeat as dots do
    green = luma if band.is_gray else _pad(band.pixels[:, :, 1])
    banding = _measure_banding(green)
    banding[jpeg > 0] = 0  # blocks without detail are bands
    return {
        "jpeg_blocks": jpeg,
        "banding": banding,
        "noise": noise,
        "halftone": _measure_halftone(band, dotted),
    }


def _pad(plane: Pixels) -> Pixels:
    """Repeat the last row and column of a plane, HxW, up to whole cells."""
    height, width = plane.shape
    missing = -height % CELL_PIXELS, -width % CELL_PIXELS
    return np.pad(plane, ((0, missing[0]), (0, missing[1])), mode="edge") if any(missing) else plane


def _grid_shape(luma: Pixels) -> tuple[int, int]:
    return luma.shape[0] // CELL_PIXELS, luma.shape[1] // CELL_PIXELS


def _cell_sums(values: npt.NDArray[np.generic], cells: tuple[int, int]) -> Floats:
    """Sums over the cells of values that divide each cell equally, rows x columns."""
    down, across = values.shape[0] // cells[0], values.shape[1] // cells[1]
    grouped = values.reshape(cells[0], down, cells[1], across)
    return np.asarray(grouped.sum(axis=(1, 3), dtype=np.float32), dtype=np.float32)


_MAX_JPEG_QUALITY: Final = 35
"""Highest JPEG quality whose blocks are reported."""
_MIN_COEFFICIENTS: Final = 24
"""Minimum number of compared coefficients of a cell and its neighbours."""
_MAX_CELL_MISFIT: Final = 0.5
"""Maximum mean distance of the coefficients from the steps of the quality, relative to chance."""
_JPEG_STRENGTH_QUALITY: Final = 60.0
"""Quality at which the strength would be 0."""


def _measure_jpeg(luma: Pixels) -> Grid:
    """Cells whose blocks are quantised as by a JPEG of low quality on the page's grid."""
    cells = _grid_shape(luma)
    strength = np.zeros(cells, dtype=np.float32)
    best = np.full(cells, _MAX_CELL_MISFIT, dtype=np.float32)
    for quality, distances, counts in measure_block_misfits(luma, _MAX_JPEG_QUALITY):
        total, number = _cell_sums(distances, cells), _cell_sums(counts, cells)
        around = _with_neighbours(number)
        misfit = np.where(number > 0, _with_neighbours(total) / np.maximum(around, 1), 1.0)
        fits = (around >= _MIN_COEFFICIENTS) & (misfit < best)
        best[fits] = misfit[fits]
        strength[fits] = 1 - quality / _JPEG_STRENGTH_QUALITY
    return strength


def _with_neighbours(values: Floats) -> Floats:
    """The sum over each cell, counted double, and its four neighbours."""
    cross = np.array([[0, 1, 0], [1, 2, 1], [0, 1, 0]], dtype=np.float32)
    return np.asarray(
        cv2.filter2D(values, cv2.CV_32F, cross, borderType=cv2.BORDER_CONSTANT), dtype=np.float32
    )


_MIN_BANDED_SHARE: Final = 0.08
"""Minimum share of the pixels of a cell in bands between steps of one direction."""
_MIN_BAND_HEIGHT: Final = 3.0
"""Minimum mean height of the steps between bands, in levels. Every slope of 8 bits has steps of 1."""
_FULL_BAND_HEIGHT: Final = 12.0
"""Mean height of the steps between bands, in levels, from which banding is strong."""


def _measure_banding(plane: Pixels) -> Grid:
    """Cells with a slope of flat bands in a channel, HxW. The channels have their bands in different places, so that brightness
    has smaller ones."""
    cells = _grid_shape(plane)
    strength = np.zeros(cells, dtype=np.float32)
    for turned in (False, True):
        rows = np.ascontiguousarray(plane.T) if turned else plane
        pixels, heights = count_stair_runs(rows, CELL_PIXELS, cells[::-1] if turned else cells)
        height = heights / np.maximum(pixels, 1)
        banded = (pixels / CELL_PIXELS**2 >= _MIN_BANDED_SHARE) & (height >= _MIN_BAND_HEIGHT)
        found = np.where(banded, np.minimum(1, height / _FULL_BAND_HEIGHT), 0)
        strength = np.maximum(strength, found.T if turned else found)
    return strength.astype(np.float32)


_MIN_CALM_BLOCKS: Final = 12
"""Minimum number of blocks of a cell without lines, of 64."""
_MIN_NOISE_LEVELS: Final = 4.0
"""Minimum deviation of the noise in the calmest quarter of these blocks, in levels."""
_FULL_NOISE_LEVELS: Final = 25.0
_MIN_WHITE_SHARE: Final = 0.75
"""Minimum share of the deviation of these blocks that is noise. Paint and pencil have coarser texture."""


def _measure_noise(luma: Pixels) -> Grid:
    """Cells whose calm blocks have fine noise and little else."""
    rows, columns = _grid_shape(luma)
    noise, deviation, usable = (
        one.reshape(rows, 8, columns, 8).swapaxes(1, 2).reshape(rows, columns, 64)
        for one in measure_block_grain(luma)
    )
    calm = usable.sum(axis=2) >= _MIN_CALM_BLOCKS
    masked = np.where(usable, noise, np.nan)
    level = np.zeros((rows, columns), dtype=np.float32)
    white = np.zeros((rows, columns), dtype=np.float32)
    if calm.any():
        level[calm] = np.nanpercentile(masked[calm], 25, axis=1)
        white[calm] = np.nanmedian((masked / np.maximum(deviation, 0.5))[calm], axis=1)
    found = (level >= _MIN_NOISE_LEVELS) & (white >= _MIN_WHITE_SHARE)
    return np.where(found, np.minimum(1, level / _FULL_NOISE_LEVELS), 0).astype(np.float32)


_HALFTONE_STRENGTH: Final = 0.7


def _measure_halftone(band: Picture, dotted: npt.NDArray[np.bool_]) -> Grid:
    """The cells with dots that have them in a colour as well: the four inks of print have different angles."""
    found = np.zeros(dotted.shape, dtype=np.float32)
    if dotted.any() and not band.is_gray:
        where = dotted.ravel()
        planes = (_pad(np.asarray(plane, dtype=np.uint8)) for plane in cv2.split(band.pixels))
        red, green, blue = (_windows_of(plane, dotted.shape)[where] for plane in planes)
        opponents = red - green, blue - (red + green) * np.float32(0.5)
        coloured = np.logical_or(*(find_dotted_windows(opponent) for opponent in opponents))
        found[dotted] = coloured * np.float32(_HALFTONE_STRENGTH)
    return found


def _windows_of(plane: Pixels, cells: tuple[int, int]) -> Floats:
    """The cells of a plane, one after the other, NxSIDExSIDE."""
    windows = plane.reshape(cells[0], CELL_PIXELS, cells[1], CELL_PIXELS).swapaxes(1, 2)
    return windows.reshape(-1, CELL_PIXELS, CELL_PIXELS).astype(np.float32)


@dataclass(frozen=True)
class _Block:
    """A rectangle of cells."""

    left: int
    top: int
    right: int
    bottom: int


def _merge_cells(kind: ArtifactKind, grid: Grid, size: tuple[int, int]) -> Iterator[ArtifactRegion]:
    """The regions of a page of `size` (width, height) in which the cells have an artifact."""
    if not grid.any():
        return
    marks = _fill_borders((grid > 0).astype(np.uint8), size)
    # Calm cells between affected ones hide the artifact.
    marks = cv2.morphologyEx(marks, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)).astype(np.uint8)
    least = _MIN_AREA_CELLS[kind] if grid.size > _MAX_SMALL_GRID_CELLS else 1
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(marks, connectivity=4)
    for number in range(1, count):
        left, top, width, height, area = (int(value) for value in boxes[number])
        if area < least:
            continue
        own = labels[top : top + height, left : left + width] == number
        blocks = [_Block(0, 0, width, height)] if area >= _MIN_FILL_SHARE * width * height else _cut_rows(own)
        for block in blocks:
            cells = _Block(left + block.left, top + block.top, left + block.right, top + block.bottom)
            yield _region_of(kind, grid, cells, size)


def _fill_borders(marks: Pixels, size: tuple[int, int]) -> Pixels:
    """Incomplete cells at the right and the bottom are as their neighbours: too little of them is measured."""
    if marks.shape[1] > 1 and size[0] % CELL_PIXELS:
        marks[:, -1] |= marks[:, -2]
    if marks.shape[0] > 1 and size[1] % CELL_PIXELS:
        marks[-1] |= marks[-2]
    return marks


def _cut_rows(own: npt.NDArray[np.bool_]) -> list[_Block]:
    """Cut cells into rectangles: runs of a row, joined with equal runs of the next rows."""
    open_runs: dict[tuple[int, int], int] = {}
    blocks: list[_Block] = []
    for row, line in enumerate([*own, np.zeros(own.shape[1], dtype=np.bool_)]):
        edges = np.flatnonzero(np.diff(np.concatenate(([0], line.astype(np.int8), [0]))))
        runs = {(int(start), int(end)) for start, end in zip(edges[::2], edges[1::2], strict=True)}
        for run in [one for one in open_runs if one not in runs]:
            blocks.append(_Block(run[0], open_runs.pop(run), run[1], row))
        for run in runs - open_runs.keys():
            open_runs[run] = row
    return blocks


def _region_of(kind: ArtifactKind, grid: Grid, cells: _Block, size: tuple[int, int]) -> ArtifactRegion:
    inside = grid[cells.top : cells.bottom, cells.left : cells.right]
    found = inside[inside > 0]
    left, top = cells.left * CELL_PIXELS, cells.top * CELL_PIXELS
    return ArtifactRegion(
        kind=kind,
        left=left,
        top=top,
        width=min(cells.right * CELL_PIXELS, size[0]) - left,
        height=min(cells.bottom * CELL_PIXELS, size[1]) - top,
        strength=round(float(found.mean()), 2) if found.size else 0.1,
    )
