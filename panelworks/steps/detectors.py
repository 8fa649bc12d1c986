"""Detectors: code of third parties that finds defects of a picture, such as errors of an image generator.

A package registers its detectors as entry points of the group `panelworks.detectors`. Each is loaded when a request first
asks for detection.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, Protocol

from pydantic import ValidationError

from panelworks.domain.regions import MAX_ARTIFACT_REGIONS, ArtifactRegion, Region
from panelworks.errors import Misconfigured, PanelworksError, ResourceExhausted, UnknownName
from panelworks.pictures.picture import Picture
from panelworks.settings import Settings

GROUP: Final = "panelworks.detectors"
"""Group of the entry points."""


class Detector(Protocol):
    """Code that finds defects of a picture. The entry point names a class or function that is called without arguments."""

    @property
    def version(self) -> str:
        """Version of its code and weights. Pages are computed again when it changes."""
        ...

    def detect(self, picture: Picture, settings: Settings) -> Iterable[ArtifactRegion]:
        """The regions of a picture with a defect. Regions are cut at the borders of the picture.

        Raises:
            PanelworksError: as providers.
        """
        ...


def registered_detectors() -> dict[str, EntryPoint]:
    """The entry points of the installed packages, by name of the detector, in alphabetical order."""
    return {point.name: point for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)}


def choose_detectors(wanted: tuple[str, ...] | None) -> tuple[str, ...]:
    """The detectors that look at pages.

    Args:
        wanted: Names in PANELWORKS_PROVIDERS; None: all that are registered.

    Raises:
        UnknownName: `no_detector`, one of them is not registered.
    """
    known = registered_detectors()
    for name in wanted or ():
        if name not in known:
            raise UnknownName(
                "no_detector",
                f"There is no detector '{name}'; registered are {', '.join(known) or 'none'}.",
            )
    return tuple(known) if wanted is None else wanted


def identify_detectors(names: Iterable[str]) -> tuple[str, ...]:
    """Each detector with its version, as the content key contains it.

    Raises:
        Misconfigured: `bad_detector`. UnknownName: `no_detector`.
    """
    return tuple(f"{name} {detector.version}" for name, detector in _load(names))


def run_detectors(
    identities: Iterable[str], picture: Picture, settings: Settings
) -> tuple[ArtifactRegion, ...]:
    """The regions that detectors find in a picture, of each the strongest `MAX_ARTIFACT_REGIONS`.

    Args:
        identities: Detectors with their versions, as `identify_detectors` returns them.
        picture: The picture.
        settings: Device and places of weights.

    Raises:
        Misconfigured: `bad_detector`, `detector_failed`. UnknownName: `no_detector`. ResourceExhausted: `out_of_memory`.
    """
    found: list[ArtifactRegion] = []
    for name, detector in _load(identity.partition(" ")[0] for identity in identities):
        own = list(_detect(name, detector, picture, settings))
        found += sorted(own, key=lambda one: -one.strength)[:MAX_ARTIFACT_REGIONS]
    return tuple(found)


def _detect(name: str, detector: Detector, picture: Picture, settings: Settings) -> Iterator[ArtifactRegion]:
    page = Region(left=0, top=0, width=picture.width, height=picture.height)
    try:
        for given in detector.detect(picture, settings):
            inside = ArtifactRegion.model_validate(given).within(page)
            if inside is not None:
                yield ArtifactRegion.model_validate({**inside.model_dump(), "detector": name})
    except PanelworksError:
        raise
    except MemoryError as error:
        raise ResourceExhausted(
            "out_of_memory", f"There is too little memory for the detector '{name}'."
        ) from error
    except ValidationError as error:
        raise Misconfigured(
            "detector_failed",
            f"The detector '{name}' returned what is not a region: {error.errors()[0]['msg']}.",
        ) from error
    except Exception as error:
        raise Misconfigured(
            "detector_failed", f"The detector '{name}' failed ({type(error).__name__})."
        ) from error


def _load(names: Iterable[str]) -> Iterator[tuple[str, Detector]]:
    known = registered_detectors()
    for name in names:
        if name not in known:
            raise UnknownName("no_detector", f"The detector '{name}' is not installed on this machine.")
        yield name, _load_detector(known[name])


@lru_cache(maxsize=32)
def _load_detector(point: EntryPoint) -> Detector:
    try:
        detector: Any = point.load()()
        str(detector.version)
    except Exception as error:
        raise Misconfigured(
            "bad_detector",
            f"The detector '{point.name}' ({point.value}) cannot be loaded ({type(error).__name__}).",
        ) from error
    if not callable(getattr(detector, "detect", None)):
        raise Misconfigured(
            "bad_detector", f"The detector '{point.name}' ({point.value}) has no method `detect`."
        )
    return detector  # type: ignore[no-any-return] # its methods were looked for
