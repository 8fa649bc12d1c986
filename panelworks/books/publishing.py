"""Publishing a book: the names of its entries, its metadata, and its destination."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

from panelworks.archives.naming import in_order, safe_everywhere, unique
from panelworks.books.binding import Leaf, bind, convert_os_errors, is_ours
from panelworks.books.metadata import COMIC_INFO, SIDECAR, PageFigures, is_comic_info, sidecar, updated
from panelworks.books.shelf import spool
from panelworks.domain.books import BookRequest, PageDone
from panelworks.domain.fields import digest_of
from panelworks.domain.formats import EXTENSIONS, MEDIA_TYPES, SUFFIXES
from panelworks.domain.result import REVIEW_FOLDER, ArtifactRef
from panelworks.errors import Misconfigured, Rejected
from panelworks.page.engine import Engine
from panelworks.settings import Settings
from panelworks.storage.headers import headers_of
from panelworks.storage.location import Location
from panelworks.storage.s3 import S3Folder

BOOK_TYPE = "application/vnd.comicbook+zip"


@dataclass(frozen=True)
class Published:
    """A published book."""

    bytes: int
    notes: tuple[str, ...]


def refuse_to_overwrite(request: BookRequest, settings: Settings) -> None:
    """Check the destination, before the work and again before publishing.

    Raises:
        Misconfigured: `out_is_source`; `exists`, it is a file that Panelworks did not write.
    """
    out, source = Location.parse(request.out), Location.parse(request.source)
    if out.is_in_bucket:
        if out == source:
            raise _out_is_source()
        folder, name = _folder_and_name(out, settings)
        if folder.info(name) is not None and not folder.is_ours(name):
            raise _exists(request.out)
        return
    if not out.path.exists():
        return
    if not source.is_in_bucket and source.path.exists() and out.path.samefile(source.path):
        raise _out_is_source()
    if not is_ours(out.path):
        raise _exists(request.out)


def _exists(out: str) -> Misconfigured:
    return Misconfigured("exists", f"{out} exists and was not written by Panelworks; it is not replaced.")


def _folder_and_name(out: Location, settings: Settings) -> tuple[S3Folder, str]:
    parent, name = out.folder_and_name
    return S3Folder(out.bucket, parent, settings), name


def _out_is_source() -> Misconfigured:
    return Misconfigured("out_is_source", "The finished book would replace its source; choose another --out.")


def waiting_place(out: str) -> str:
    """Where a book waits for the review of a person: in the folder `review` beside its destination `out`.

    The name contains a digest of the destination: it is never that of a finished book.
    """
    parent, name = Location.parse(out).parent_and_name()
    stem, dot, extension = name.rpartition(".")
    return str(parent.joined(f"{REVIEW_FOLDER}{stem}-{digest_of(out)[:8]}{dot}{extension}"))


def publish(
    request: BookRequest,
    pages: Sequence[PageDone],
    extras: Sequence[tuple[str, ArtifactRef]],
    engine: Engine,
    place: str,
) -> Published:
    """Bind the book and write it to `place`: its destination, or where it waits for review."""
    names = entry_names(pages)
    leaves = [
        Leaf(name, partial(engine.store.get, artifact))
        for page, files in zip(pages, names, strict=True)
        for name, artifact in zip(files, contents_of(page), strict=True)
    ]
    others, notes = _other_leaves(request, pages, names, extras, engine)
    leaves += others
    refuse_to_overwrite(request, engine.settings)
    out = Location.parse(place)
    waits = place != request.out
    replaced = not waits and _exists_at(out, engine.settings)
    size = _upload(leaves, out, engine.settings, waits) if out.is_in_bucket else bind(leaves, out.path)
    if replaced:
        engine.purges.request([str(out)])
    return Published(size, (*notes_of(pages, names), *notes))


def move(place: str, out: str, settings: Settings) -> None:
    """Move a book from where it waited to its destination. Nothing happens if that was done before.

    Raises:
        Rejected: `not_found`, there is no such file. Misconfigured: `not_writable`. Transient: the bucket does not answer.
    """
    source, target = Location.parse(place), Location.parse(out)
    if source.is_in_bucket:
        folder, name = _folder_and_name(source, settings)
        into, wanted = _folder_and_name(target, settings)
        if folder.info(name) is not None:
            into.copy_from(folder, name, wanted, BOOK_TYPE, headers_of(wanted, settings))
            folder.delete(name)
        elif into.info(wanted) is None:
            raise _book_missing()
        return
    with convert_os_errors(target.path):
        try:
            source.path.replace(target.path)
        except FileNotFoundError as error:
            if not target.path.exists():
                raise _book_missing() from error
        with suppress(OSError):  # other books wait in it
            source.path.parent.rmdir()


def remove(place: str, settings: Settings) -> None:
    """Remove a book that waited for review, if it exists.

    Raises:
        Misconfigured: `not_writable`. Transient: the bucket does not answer.
    """
    location = Location.parse(place)
    if location.is_in_bucket:
        folder, name = _folder_and_name(location, settings)
        folder.delete(name)
        return
    with convert_os_errors(location.path):
        location.path.unlink(missing_ok=True)
        with suppress(OSError):
            location.path.parent.rmdir()


def _book_missing() -> Rejected:
    return Rejected("not_found", "The file of this book was removed; process the book again.")


def contents_of(page: PageDone) -> tuple[ArtifactRef, ...]:
    """The pictures of a page in the book, in order; empty for a page that could not be read."""
    return (page.original,) if page.original else tuple(part.artifact for part in page.parts)


def entry_names(pages: Sequence[PageDone]) -> list[list[str]]:
    """Names of the entries of each page: the source's name, with the extension of the written format, valid on every system.

    Sorting the names gives the reading order.
    """
    wanted = [_files(page, safe_everywhere(page.name)) for page in pages]
    flat = iter(in_order(unique([name for files in wanted for name in files])))
    return [[next(flat) for _ in files] for files in wanted]


def _files(page: PageDone, name: str) -> list[str]:
    if page.original is not None:
        return [name]
    stem = str(PurePosixPath(name).with_suffix("")) if PurePosixPath(name).suffix else name
    if len(page.parts) == 1:
        (part,) = page.parts
        return [
            name if _has_extension(name, part.artifact) else f"{stem}.{EXTENSIONS[part.artifact.media_type]}"
        ]
    return [
        f"{stem}-{number:02d}.{EXTENSIONS[part.artifact.media_type]}"
        for number, part in enumerate(page.parts, start=1)
    ]


def _has_extension(name: str, artifact: ArtifactRef) -> bool:
    """Does the extension of the source match the written format? `.jpeg` and `.jpg` are equal."""
    suffix = PurePosixPath(name).suffix.lower()
    return any(
        suffix in SUFFIXES[kind] for kind, media in MEDIA_TYPES.items() if media == artifact.media_type
    )


def notes_of(pages: Sequence[PageDone], names: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Notes on the pages, for people."""
    notes = []
    for page, files in zip(pages, names, strict=True):
        if page.error is not None:
            what = "lost" if page.state == "unreadable" else "kept as it was"
            notes.append(f"{page.name}: {what}: {page.error.message} [{page.error.code}]")
        elif len(files) > 1:
            notes.append(
                f"{page.name}: cut into {len(files)} parts at blank gutters: it is too long for its format"
            )
        elif page.parts and page.wanted not in (None, page.parts[0].format):
            notes.append(
                f"{page.name}: written as {page.parts[0].format}: it is too long for {page.wanted}, and it has no gutters"
            )
        elif page.state == "unimproved":
            fallback = page.outcome.fallback if page.outcome else None
            reason = fallback.reason if fallback else "nothing improved it"
            notes.append(f"{page.name}: kept as it was: {reason}")
        notes += [f"{page.name}: {note}" for note in page.notes]
    return tuple(notes)


def _other_leaves(
    request: BookRequest,
    pages: Sequence[PageDone],
    names: Sequence[Sequence[str]],
    extras: Sequence[tuple[str, ArtifactRef]],
    engine: Engine,
) -> tuple[list[Leaf], tuple[str, ...]]:
    """The entries beside the pages: ComicInfo.xml, the provenance, and all other files of the source; and notes on the first."""
    leaves: list[Leaf] = []
    notes: tuple[str, ...] = ()
    infos = [extra for extra in extras if is_comic_info(extra[0])]
    info = min(infos, key=lambda extra: (extra[0].count("/"), extra[0]), default=None)
    if info is not None:
        enhanced = sum(page.state == "enhanced" for page in pages)
        note = f"{enhanced} of {len(pages)} pages enhanced."
        found = updated(engine.store.get(info[1]), [_figures(page) for page in pages], note)
        notes = found.notes
        if found.data is not None:
            extras = [extra for extra in extras if extra is not info]
            leaves.append(Leaf(COMIC_INFO, partial(_given, found.data)))
    leaves.append(Leaf(SIDECAR, partial(_given, sidecar(request.options, pages, names))))
    # The provenance of an earlier enhancement is outdated.
    others = sorted(
        (extra for extra in extras if extra[0].rpartition("/")[2] != SIDECAR), key=lambda extra: extra[0]
    )
    taken = [name for files in names for name in files] + [leaf.name for leaf in leaves]
    safe = unique([*taken, *(safe_everywhere(name) for name, _ in others)])[len(taken) :]
    leaves += [
        Leaf(entry, partial(engine.store.get, artifact))
        for entry, (_, artifact) in zip(safe, others, strict=True)
    ]
    return leaves, notes


def _given(data: bytes) -> bytes:
    return data


def _figures(page: PageDone) -> list[PageFigures]:
    return [
        PageFigures(artifact.width or None, artifact.height or None, artifact.bytes)
        for artifact in contents_of(page)
    ]


def _exists_at(place: Location, settings: Settings) -> bool:
    """Is there a file of this name?"""
    if not place.is_in_bucket:
        return place.path.exists()
    folder, name = _folder_and_name(place, settings)
    return folder.exists(name)


def _upload(leaves: list[Leaf], out: Location, settings: Settings, waits: bool) -> int:
    with spool(settings) as folder:
        path = folder / "book.cbz"
        size = bind(leaves, path)
        place, name = _folder_and_name(out, settings)
        place.upload(path, name, BOOK_TYPE, headers_of(name, settings, waits=waits))
    return size
