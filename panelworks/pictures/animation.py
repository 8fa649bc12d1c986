"""Animations: GIF, animated WebP, APNG and AVIF sequences, read frame by frame.

The frames of a file are placed on a canvas here, with the rules of browsers, instead of by Pillow: Pillow fills the
rectangle of a GIF's frame with the background colour where browsers make it transparent, enlarges the canvas for frames
beside it, and rounds each delay of an APNG on its own. One canvas is in memory at a time, and the file.
"""

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

from PIL import Image

from panelworks.errors import PanelworksError, Rejected
from panelworks.pictures.colour import to_picture
from panelworks.pictures.colour_tags import ColourSpace, colour_space_of, outranks_profile
from panelworks.pictures.decode import FIRST_FRAME_NOTE, TRANSPOSITIONS, orientation_of
from panelworks.pictures.picture import Picture
from panelworks.pictures.stored_frames import StoredAnimation, StoredFrame, scan_frames
from panelworks.settings import Settings

MAX_UNUSABLE_DELAY: Final = 10
"""Longest delay in milliseconds that browsers replace by `BROWSER_DELAY`."""
BROWSER_DELAY: Final = 100
"""Milliseconds for which browsers show a frame whose delay is zero or up to `MAX_UNUSABLE_DELAY`."""
_SWAPPING: Final = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""


@dataclass(frozen=True)
class Animation:
    """The frames of a file, decoded when they are needed."""

    stored: StoredAnimation
    delays: tuple[int, ...]
    """Milliseconds for which each frame is shown."""
    orientation: int = 1
    """EXIF orientation that is applied to each frame."""

    def __len__(self) -> int:
        return len(self.delays)

    @property
    def size(self) -> tuple[int, int]:
        """Upright width and height."""
        width, height = self.stored.canvas
        return (height, width) if self.orientation in _SWAPPING else (width, height)

    @property
    def plays(self) -> int:
        """How often it is played; 0: without end."""
        return self.stored.plays

    @property
    def milliseconds(self) -> int:
        """Duration of one play."""
        return sum(self.delays)

    def pictures(self) -> Iterator[Picture]:
        """Decode the frames one after the other, each as it is seen: upright, in sRGB or gray, with transparency.

        Raises:
            Rejected: `damaged`, a frame cannot be decoded.
        """
        space = _stated_space(self.stored)
        for canvas in _compose(self.stored):
            image = canvas
            if self.orientation in TRANSPOSITIONS:
                image = canvas.transpose(TRANSPOSITIONS[self.orientation])
                image.info = dict(canvas.info)
            yield to_picture(image, space=space)[0]

    def frames(self) -> Iterator[tuple[Picture, int]]:
        """The pictures, each with the milliseconds for which it is shown."""
        return zip(self.pictures(), self.delays, strict=True)

    def first(self) -> Picture:
        """The first frame; `damage` is why its pixels may be wrong."""
        return replace(next(self.pictures()), damage=self.stored.frames[0].find_damage())

    def up_to(self, count: int) -> "Animation":
        """The first `count` frames."""
        stored = replace(self.stored, frames=self.stored.frames[:count])
        return replace(self, stored=stored, delays=self.delays[:count])


def read_animation(data: bytes, limits: Settings) -> Animation | None:
    """The animation in a file; None for still pictures and files with one frame. Frames are not decoded.

    Raises:
        Rejected: `too_many_frames`; `too_large`, the frames have too many pixels in total; `too_long`, the animation
            lasts too long; `out_of_proportion`; `damaged`.
    """
    try:
        stored = scan_frames(data, limits.max_frames, limits.max_source_bytes)
    except (PanelworksError, MemoryError, TimeoutError):
        raise
    except Exception as error:  # decoders of untrusted bytes raise any kind of error
        raise Rejected("damaged", "The animation's data is damaged and cannot be read.") from error
    if stored is None:
        return None
    pixels = stored.canvas[0] * stored.canvas[1]
    total = sum(max(pixels, frame.size[0] * frame.size[1]) for frame in stored.frames)
    if total > limits.max_animation_pixels:
        raise Rejected(
            "too_large",
            f"The animation has {total / 1e6:.0f} megapixels in {len(stored.frames)} frames; at most"
            f" {limits.max_animation_pixels / 1e6:.0f} are read.",
        )
    animation = Animation(
        stored, round_delays(frame.delay for frame in stored.frames), orientation_of(stored.info)
    )
    if animation.milliseconds > 1000 * limits.max_animation_seconds:
        raise Rejected(
            "too_long",
            f"The animation lasts {animation.milliseconds / 1000:.0f} seconds; at most"
            f" {limits.max_animation_seconds:g} are allowed.",
        )
    return animation


def check_frames(
    animation: Animation, limits: Settings, notes: tuple[str, ...] = ()
) -> tuple[Animation | None, tuple[str, ...]]:
    """Decode all frames.

    Args:
        animation: The animation.
        limits: With `truncated_animations`.
        notes: Notes from decoding the first frame alone.

    Returns:
        The animation up to its last complete frame, None if that is the first one; and the notes that apply.

    Raises:
        Rejected: `truncated`, it ends early and PANELWORKS_TRUNCATED_ANIMATIONS is `reject`; `damaged`, not even the
            first frame can be decoded.
    """
    complete, found = 0, list[str]()
    try:
        for frame, _ in zip(animation.stored.frames, animation.pictures(), strict=True):
            complete += 1
            damage = frame.find_damage()
            if damage is not None and complete > 1:
                found.append(f"frame {complete} may be damaged: {damage}")
    except (MemoryError, TimeoutError):
        raise
    except Exception as error:  # decoders of untrusted bytes raise any kind of error
        if not complete:
            raise Rejected("damaged", "The animation's data is damaged and cannot be read.") from error
    if complete < len(animation) or animation.stored.is_cut:
        if limits.truncated_animations == "reject":
            raise Rejected("truncated", f"The animation's data ends after its frame {complete}.")
        found.append(f"the animation's data ends early: complete frames that were used: {complete}")
    if complete == 1:
        return None, (*notes, *found)
    kept = (note for note in notes if not note.startswith(FIRST_FRAME_NOTE))
    return animation.up_to(complete), (*kept, *found)


def round_delays(delays: Iterable[Fraction], unit: int = 1) -> tuple[int, ...]:
    """Delays in whole units of `unit` milliseconds, without drift: the time of each frame is rounded, not its delay.

    Delays up to `MAX_UNUSABLE_DELAY` become `BROWSER_DELAY`, as all browsers show them.
    """
    shown = (Fraction(BROWSER_DELAY) if delay <= MAX_UNUSABLE_DELAY else delay for delay in delays)
    times = [
        unit * int(time / unit + Fraction(1, 2)) for time in itertools.accumulate(shown, initial=Fraction())
    ]
    return tuple(end - start for start, end in itertools.pairwise(times))


def digest_of_pixels(picture: Picture) -> bytes:
    """A digest by which identical pictures are recognized."""
    digest = hashlib.blake2b(repr(picture.pixels.shape).encode(), digest_size=20)
    digest.update(picture.pixels.data if picture.pixels.flags.c_contiguous else picture.pixels.tobytes())
    if picture.alpha is not None:
        digest.update(b"alpha" + picture.alpha.tobytes())
    return digest.digest()


def _compose(stored: StoredAnimation) -> Iterator[Image.Image]:
    """The canvas, RGBA, as each frame leaves it. It is changed after each step."""
    canvas = Image.new("RGBA", stored.canvas)
    canvas.info.update({name: stored.info[name] for name in ("icc_profile",) if name in stored.info})
    if outranks_profile(stored.info):
        canvas.info.pop("icc_profile", None)
    for frame in stored.frames:
        box = _visible_box(frame, stored.canvas)
        if box is None:
            yield canvas
            continue
        before = canvas.crop(box) if frame.disposal == "restore" else None
        patch = frame.load().crop((0, 0, box[2] - box[0], box[3] - box[1]))
        if frame.blend:
            canvas.alpha_composite(patch, box[:2])
        else:
            canvas.paste(patch, box[:2])
        yield canvas
        if frame.disposal == "clear":
            canvas.paste((0, 0, 0, 0), box)
        elif before is not None:
            canvas.paste(before, box[:2])


def _visible_box(frame: StoredFrame, canvas: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """The part of the canvas that a frame covers: left, top, right, bottom; None if it lies beside the canvas."""
    (left, top), (width, height) = frame.place, frame.size
    right, bottom = min(canvas[0], left + width), min(canvas[1], top + height)
    return (left, top, right, bottom) if left < right and top < bottom else None


def _stated_space(stored: StoredAnimation) -> ColourSpace | None:
    return colour_space_of(stored.info) if stored.format == "png" else None
