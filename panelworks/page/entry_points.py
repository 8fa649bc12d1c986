"""Entry points: which sources and places a request may name.

An operator (command line, library, a run started in the Prefect UI) may name anything that this machine can read.
Events and HTTP requests may name https addresses, data URIs, uploads and buckets on the allow-list, local paths only
under PANELWORKS_SOURCE_ROOTS, and no weight files. Nobody may name the store, the ledger and the cache: they contain
data of all clients.
"""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from posixpath import normpath

from panelworks.domain.options import EnhanceOptions
from panelworks.domain.request import PageRequest
from panelworks.domain.treatment import Treatment
from panelworks.errors import UnsafeSource
from panelworks.models.registry import registered_card
from panelworks.models.weights import installed_path
from panelworks.page.planning import LANCZOS
from panelworks.page.watermarks import watermarks_of
from panelworks.settings import Settings
from panelworks.steps.inventory import AUTO
from panelworks.storage.location import Location
from panelworks.video.moment import without_moment


def admit(request: PageRequest, settings: Settings) -> None:
    """Refuse a request that names what its entry point does not allow.

    Raises:
        UnsafeSource: `forbidden_path`, `forbidden_bucket`, `forbidden_scheme`, `forbidden_out` or
            `forbidden_model`. Network addresses are checked when they are connected to.
    """
    if request.origin.entry_point == "operator":
        return
    # A moment of a video is admitted if its file is; the text with the moment may name a file as well.
    for source in dict.fromkeys((request.source, without_moment(request.source))):
        _admit_source(source, settings)
    _admit_out(request.out, settings)
    admit_treatment(request.options, settings)
    for rule in request.options.rules or ():
        admit_treatment(rule.then, settings)


def admit_backfill(archive: str, out: str, options: EnhanceOptions, settings: Settings) -> None:
    """Refuse a backfill that is requested by HTTP and names other places than the operator has configured.

    Books may be in PANELWORKS_LIBRARY, below PANELWORKS_SOURCE_ROOTS or in a bucket on the allow-list; finished books go to
    PANELWORKS_LIBRARY_OUT, a folder in it, or such a bucket.

    Raises:
        UnsafeSource: as `admit`.
    """
    for place, own in ((archive, settings.library), (out, settings.finished_library)):
        location = Location.parse(place)
        if own is not None and location.absolute() == Location.parse(own).absolute():
            continue
        if location.is_in_bucket:
            _admit_bucket(location, settings)
        elif place == archive:
            library = [] if own is None else [Location.parse(own)]
            folders = (one.absolute_path for one in library if not one.is_in_bucket)
            _admit_path(location, settings, (*settings.source_roots, *folders))
        elif own is None or Location.parse(own).is_in_bucket or not _is_below(location, Location.parse(own)):
            raise UnsafeSource(
                "forbidden_out",
                "Books are delivered to PANELWORKS_LIBRARY_OUT or to a bucket on the allow-list.",
            )
    for treatment in (options, *(rule.then for rule in options.rules or ())):
        admit_treatment(treatment, settings)


def _is_below(location: Location, folder: Location) -> bool:
    return location.absolute_path.resolve().is_relative_to(folder.absolute_path.resolve())


def admit_treatment(treatment: Treatment, settings: Settings) -> None:
    """Refuse a treatment of a client that names a weight file, or a watermark that it may not read.

    Raises:
        UnsafeSource: `forbidden_model`, `forbidden_path`, `forbidden_bucket`, `forbidden_scheme`.
    """
    admit_model(treatment.model, settings)
    for mark in watermarks_of(treatment):
        if mark.image is not None:
            _admit_source(mark.image, settings)
    if any(spec.source is not None for spec in treatment.variants):
        raise UnsafeSource("forbidden_path", "The pipeline itself sets the source of a variant.")


def admit_model(name: str, settings: Settings) -> None:
    """Refuse a weight file, and a network whose weights would have to be downloaded while a client waits.

    Raises:
        UnsafeSource: `forbidden_model`.
    """
    card = registered_card(name)
    if card is None and name.lower() not in (AUTO, LANCZOS):
        raise UnsafeSource("forbidden_model", "Only known networks can be named here, not weight files.")
    if card is not None and not card.sha256 and installed_path(card, settings) is None:
        # The hash of its weights is unknown before the download: gigabytes, while the client waits.
        raise UnsafeSource("forbidden_model", f"{card.name} must be downloaded on the server first.")


def _admit_source(source: str, settings: Settings) -> None:
    if source.startswith(("https://", "http://", "data:", "stored:")):
        return
    location = Location.parse(source)
    if location.scheme == "s3":
        _admit_bucket(location, settings)
    elif location.scheme in ("", "file"):
        _admit_path(location, settings, settings.source_roots)
    else:
        raise UnsafeSource("forbidden_scheme", f"Addresses of the kind {location.scheme}: are not read.")


def _admit_bucket(location: Location, settings: Settings) -> None:
    if location.bucket not in settings.allowed_buckets:
        raise UnsafeSource(
            "forbidden_bucket", "This bucket is not on the allow-list (S3_BUCKET, PANELWORKS_S3_BUCKETS)."
        )
    named = _components(location.key)
    for place in map(Location.parse, settings.private_places):
        private = _components(place.key)
        if place.is_in_bucket and location.bucket == place.bucket and named[: len(private)] == private:
            raise UnsafeSource("forbidden_bucket", "The working store and the ledger cannot be named.")


def _components(key: str) -> tuple[str, ...]:
    """Components of a key as a server with folders reads it: without empty components, `.` and `..`."""
    return PurePosixPath(normpath(f"/{key}").lstrip("/")).parts


def _admit_path(location: Location, settings: Settings, roots: Iterable[Path]) -> None:
    """The path, with all links resolved, must be under one of the roots."""
    try:
        real = location.path.resolve()
    except (OSError, ValueError, RuntimeError):
        real = None
    places = map(Location.parse, settings.private_places)
    private = [place.path for place in places if not place.is_in_bucket]
    if (
        real is None
        or not any(real.is_relative_to(root.resolve()) for root in roots)
        or any(real.is_relative_to(folder.resolve()) for folder in private)
    ):
        raise UnsafeSource("forbidden_path", "Local files can only be named below PANELWORKS_SOURCE_ROOTS.")


def _admit_out(out: str, settings: Settings) -> None:
    if out == settings.default_out:
        return
    location = Location.parse(out)
    if not location.is_in_bucket:
        raise UnsafeSource("forbidden_out", "Pages requested here are delivered to S3 or the default place.")
    _admit_bucket(location, settings)
