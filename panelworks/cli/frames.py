"""`panelworks frames`: frames of videos as pictures, a poster, and a contact sheet."""

import re
import sys
from collections.abc import Iterator
from typing import Annotated, Final, Literal

import typer
from rich.progress import Progress

from panelworks.cli.batches import Page, PageList
from panelworks.cli.enhance import Flow, check_options, enhance_all, make_progress_bar
from panelworks.cli.options import Json, with_options
from panelworks.cli.output import argument_to_address, expand_globs, print_json, shorten_source
from panelworks.domain.fields import Frozen
from panelworks.domain.formats import MEDIA_TYPES
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.result import ErrorInfo, PageResult
from panelworks.errors import Misconfigured, PanelworksError, Rejected, as_known_error
from panelworks.pictures import decode, encode
from panelworks.settings import Settings, get_settings
from panelworks.sources.fetch import fetch
from panelworks.storage import ObjectFolder, check_places, open_folder
from panelworks.text import to_printable
from panelworks.video.clip import Clip
from panelworks.video.moment import format_time, split_moment, with_moment
from panelworks.video.sheet import ContactSheet
from panelworks.video.source import LocalFile, local_file

MAX_FRAMES: Final = 1000
"""Frames that one call takes of a video."""
_DURATION: Final = re.compile(r"(?P<number>\d{1,9}(?:\.\d{1,9})?)(?P<unit>ms|s|min|h)?", re.ASCII)
_UNIT_SECONDS: Final = {None: 1.0, "ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
Mode = Literal["poster", "scenes", "count", "every"]


class Selection(Frozen):
    """Which frames of a video are taken."""

    mode: Mode
    count: int = 1
    """For `count`."""
    seconds: float = 0.0
    """For `every`: the distance of two frames."""


class FrameRecord(Frozen):
    """One frame that was written."""

    video: str
    seconds: float
    """Exact time of the frame since the first one."""
    source: str
    """The address of this moment, for `panelworks enhance` and other commands."""
    uri: str
    """The PNG file."""
    width: int
    height: int
    notes: tuple[str, ...]


@with_options(
    EnhanceOptions, without=("quality_threshold", "technical_threshold", "tone_points", "ignore_series_rule")
)
def frames(
    videos: Annotated[
        list[str],
        typer.Argument(
            metavar="VIDEO...",
            help="Videos (MP4, MOV, WebM, MKV): paths, globs, https:// or s3:// addresses; #t=12.5 or #best names one frame.",
            show_default=False,
        ),
    ],
    options: EnhanceOptions,
    every: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="One frame each 5s, 500ms or 1min, black ones included."),
    ] = None,
    scenes: Annotated[
        bool,
        typer.Option(
            "--scenes", help="The clearest frame near the start of each scene. This is the default."
        ),
    ] = False,
    count: Annotated[
        int | None, typer.Option(min=1, max=MAX_FRAMES, help="This many clear frames, spread over the video.")
    ] = None,
    poster: Annotated[
        bool, typer.Option("--poster", help="The one frame that represents the video, as #best.")
    ] = False,
    out: Annotated[str, typer.Option(help="Folder or s3://bucket/prefix for the frames.")] = "frames",
    sheet: Annotated[bool, typer.Option("--sheet", help="Also write a contact sheet of the frames.")] = False,
    enhance: Annotated[
        bool, typer.Option("--enhance", help="Also enhance the frames like pages, with the options below.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Enhance again even if the result is cached.")
    ] = False,
    flow: Flow = None,
    json: Json = False,
) -> None:
    """Write frames of videos as PNG files whose names contain their times. Black, white and fading frames are not chosen.

    With --enhance, each frame is then enhanced like a page; whole videos are not enhanced.
    Exit code: 0 all written, 1 some failed, 2 wrong usage.
    """
    selection = choose_selection(every=every, scenes=scenes, count=count, poster=poster)
    if enhance:
        check_options(options)
    out = argument_to_address(out)
    settings = get_settings()
    check_places((out,), settings)
    failures = 0
    for video in expand_globs(videos):
        job = _Job(argument_to_address(video), out, settings, json=json, with_sheet=sheet)
        failures += not _process(job, selection, options if enhance else None, force=force, flow=flow)
    raise typer.Exit(1 if failures else 0)


def _process(
    job: "_Job",
    selection: Selection | None,
    options: EnhanceOptions | None,
    *,
    force: bool,
    flow: bool | None,
) -> bool:
    """Write the frames of one video, enhance them if there are options, and write the sheet. Did all succeed?

    Raises:
        Misconfigured: as the job. typer.Exit: the user pressed Ctrl-C.
    """
    failed = False
    try:
        records = job.write_frames(selection)
        if options is not None and records:
            failed = job.enhance(records, options, force=force, flow=flow)
        job.write_sheet()
    except KeyboardInterrupt:
        print("Stopped. Frames that are listed above are complete.", file=sys.stderr)
        raise typer.Exit(130) from None
    except Exception as error:
        known = as_known_error(error)
        if known is None or isinstance(known, Misconfigured):
            raise
        failed = True
        job.print_error(known)
    return not failed


def choose_selection(*, every: str | None, scenes: bool, count: int | None, poster: bool) -> Selection | None:
    """The selection that the options name; None if they name none.

    Raises:
        Misconfigured: `bad_option`, more than one is named, or the time is not well formed.
    """
    if sum((every is not None, scenes, count is not None, poster)) > 1:
        raise Misconfigured("bad_option", "Use only one of --every, --scenes, --count and --poster.")
    if every is not None:
        match = _DURATION.fullmatch(every.strip())
        seconds = 0.0 if match is None else float(match["number"]) * _UNIT_SECONDS[match["unit"]]
        if seconds <= 0:
            raise Misconfigured("bad_option", "--every: it must be a time such as 5s, 500ms or 1min.")
        return Selection(mode="every", seconds=seconds)
    if count is not None:
        return Selection(mode="count", count=count)
    if poster or scenes:
        return Selection(mode="poster" if poster else "scenes")
    return None


class _Job:
    """The frames of one video."""

    def __init__(self, video: str, out: str, settings: Settings, *, json: bool, with_sheet: bool) -> None:
        self._video, self._out, self._settings, self._json = video, out, settings, json
        self._folder: ObjectFolder = open_folder(out, settings)
        self._stem = "video"
        self._sheet = ContactSheet() if with_sheet else None
        self._enhanced: ContactSheet | None = None

    def write_frames(self, selection: Selection | None) -> list[FrameRecord]:
        """Write the frames and print a line for each.

        Raises:
            PanelworksError: as `Clip`; `too_many_frames`.
        """
        address, moment = split_moment(self._video)
        if moment is not None and selection is not None:
            raise Misconfigured(
                "bad_option", "A video with #t= or #best has one frame; name it without other options."
            )
        records = []
        with (
            local_file(address, self._settings) as file,
            Clip(file.path, self._settings) as clip,
            make_progress_bar() as bar,
        ):
            self._stem = file.stem
            if moment is not None and moment.seconds is not None:
                times, notes = [moment.seconds], tuple[str, ...]()
            else:
                wanted = selection or Selection(mode="scenes" if moment is None else "poster")
                times, notes = _choose_times(clip, wanted, bar)
            task = bar.add_task("frames", total=len(times))
            written: set[float] = set()
            for seconds in times:
                record = self._write_frame(clip, file, seconds, address, notes, written)
                bar.advance(task)
                if record is not None:
                    records.append(record)
                    self._print_frame(record)
        return records

    def _write_frame(
        self,
        clip: Clip,
        file: LocalFile,
        seconds: float,
        address: str,
        notes: tuple[str, ...],
        written: set[float],
    ) -> FrameRecord | None:
        """Write the frame at a time; None if it was written for another time."""
        frame = clip.read(seconds)
        if frame.seconds in written:
            return None
        written.add(frame.seconds)
        name = f"{file.stem}-{format_time(frame.seconds)}.png"
        uri = self._folder.write(name, encode(frame.picture, "png"), MEDIA_TYPES["png"])
        if self._sheet is not None:
            self._sheet.add(frame.picture, _caption(frame.seconds))
        return FrameRecord(
            video=file.uri,
            seconds=round(frame.seconds, 6),
            source=with_moment(address, frame.seconds),
            uri=uri,
            width=frame.picture.width,
            height=frame.picture.height,
            notes=(*notes, *frame.notes),
        )

    def enhance(
        self, records: list[FrameRecord], options: EnhanceOptions, *, force: bool, flow: bool | None
    ) -> bool:
        """Enhance the written frames like pages. Returns whether some failed. The contact sheet then shows the results.

        Raises:
            KeyboardInterrupt: it was interrupted.
        """
        if self._sheet is not None:
            self._enhanced = ContactSheet()
        captions = {record.uri: _caption(record.seconds) for record in records}

        def add(source: str, result: PageResult) -> None:
            if self._enhanced is not None and result.master is not None:
                limits = self._settings.model_copy(
                    update={
                        "max_source_bytes": result.master.bytes,
                        "max_pixels": self._settings.max_output_pixels,
                    }
                )
                data = fetch(result.master.uri, limits).data
                self._enhanced.add(decode(data, limits).picture, captions[source])

        code = enhance_all(
            PageList(tuple(Page(one, one) for one in captions), is_batch=False),
            self._out,
            options,
            force=force,
            flow=flow,
            json=self._json,
            on_result=add,
        )
        if code == 130:
            raise KeyboardInterrupt
        return code != 0

    def write_sheet(self) -> None:
        """Write the contact sheet, of the enhanced frames if there are any."""
        sheet = self._enhanced or self._sheet
        if not sheet:
            return
        picture = sheet.picture()
        uri = self._folder.write(f"{self._stem}-sheet.png", encode(picture, "png"), MEDIA_TYPES["png"])
        if self._json:
            print_json({"sheet": uri, "frames": len(sheet), "width": picture.width, "height": picture.height})
        else:
            print(f"contact sheet of {len(sheet)} frames: {uri}", flush=True)

    def print_error(self, error: PanelworksError) -> None:
        """Print why the video failed."""
        if self._json:
            print_json({"video": self._video, "error": ErrorInfo.of(error).model_dump(mode="json")})
        else:
            print(f"{shorten_source(self._video)}: {to_printable(error.message)} [{error.code}]", flush=True)

    def _print_frame(self, record: FrameRecord) -> None:
        if self._json:
            print_json({**record.model_dump(mode="json"), "error": None})
            return
        print(f"{record.source}: {record.width}x{record.height}\n    {record.uri}", flush=True)
        for note in record.notes:
            print(f"    {to_printable(note)}", flush=True)


def _choose_times(clip: Clip, selection: Selection, bar: Progress) -> tuple[list[float], tuple[str, ...]]:
    """The times of the selected frames, in order, and notes.

    Raises:
        Rejected: `too_many_frames`, `unknown_duration`, and as `Clip`.
    """
    if selection.mode == "every":
        return list(_regular_times(clip.duration, selection.seconds)), ()
    task = bar.add_task("search", total=100)
    survey = clip.survey(lambda share: bar.update(task, completed=100 * share))
    if selection.mode == "poster":
        return [clip.best(survey)], survey.notes
    if selection.mode == "scenes":
        return clip.scene_times(survey, MAX_FRAMES), survey.notes
    times, notes = clip.spread_times(survey, selection.count), survey.notes
    if len(times) < selection.count:
        notes = (*notes, f"count: the video has only {len(times)} clear frames")
    return times, notes


def _regular_times(duration: float, distance: float) -> Iterator[float]:
    if duration <= 0:
        raise Rejected("unknown_duration", "The video does not state its duration; use --count or --scenes.")
    number = max(1, int((duration - 1e-6) / distance) + 1)
    if number > MAX_FRAMES:
        raise Rejected(
            "too_many_frames",
            f"These are {number} frames; at most {MAX_FRAMES} are taken. Use a longer time.",
        )
    yield from (index * distance for index in range(number))


def _caption(seconds: float) -> str:
    return format_time(seconds).replace("-", ":")
