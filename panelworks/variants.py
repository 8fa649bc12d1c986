"""Cutting variants from a master."""

from collections.abc import Iterator
from dataclasses import dataclass

from panelworks.pictures import Picture, encode, fit_size, resize
from panelworks.pictures.formats import PictureFormat, format_that_holds
from panelworks.presets import VariantSpec


@dataclass(frozen=True)
class Variant:
    """One encoded derivative, in memory."""

    spec: VariantSpec
    format: PictureFormat
    """The format written: the one asked for, or the next that can hold so long a side."""
    size: tuple[int, int]
    data: bytes


def cut_variants(master: Picture, specs: tuple[VariantSpec, ...]) -> Iterator[Variant]:
    """The variants, smallest first, so that a reader's copy is there early."""
    planned = sorted(
        ((fit_size(master.size, (spec.width, spec.height)), spec) for spec in specs),
        key=lambda plan: plan[0],
    )
    for size, spec in planned:
        format = format_that_holds(*size, spec.format)
        yield Variant(spec, format, size, encode(resize(master, size), format, spec.quality))
