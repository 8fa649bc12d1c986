"""Random requests."""

import string
from typing import Any, get_args

from hypothesis import strategies as st

from panelworks.domain.books import BookOptions, BookRequest
from panelworks.domain.formats import PRESETS
from panelworks.domain.options import EnhanceOptions, Matting, Region
from panelworks.domain.quality import PageType
from panelworks.domain.request import EntryPoint, Origin, PageRequest
from panelworks.domain.treatment import Conditions, Rule, Treatment

_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30)
_SHARE = st.floats(0, 1)
_SIDE = st.integers(1, 2**31 - 1)


def _rules() -> st.SearchStrategy[Rule]:
    conditions = st.builds(
        Conditions,
        content=st.lists(st.sampled_from(get_args(PageType)), max_size=2).map(tuple),
        min_width=_SIDE,
        max_aspect=st.none() | st.floats(0.1, 10),
        path=st.none() | _TEXT,
    )
    treatment = st.builds(Treatment, scale=st.none() | st.floats(1, 4), gray=st.sampled_from(["auto", "on"]))
    return st.builds(Rule, name=_TEXT, when=conditions, then=treatment)


def options() -> st.SearchStrategy[EnhanceOptions]:
    switch = st.sampled_from(["auto", "on", "off"])
    region = st.builds(Region, left=_SIDE, top=_SIDE, width=_SIDE, height=_SIDE)
    without_size = st.builds(
        EnhanceOptions,
        preset=st.sampled_from(sorted(PRESETS)),
        model=st.sampled_from(["auto", "lanczos", "realesrgan-x4plus"]) | _TEXT,
        fix_artifacts=st.sampled_from(["auto", "on", "off", "regions"]),
        detect=st.sampled_from(["off", "report", "inpaint"]),
        descreen=switch,
        denoise=st.none() | _SHARE,
        face=st.booleans(),
        colour=st.none() | _SHARE,
        remove_background=st.booleans(),
        levels=st.none() | _SHARE,
        gray=switch,
        format=st.none() | st.sampled_from(["png", "jpeg", "webp", "avif"]),
        rules=st.none() | st.lists(_rules(), max_size=3, unique_by=lambda rule: rule.name).map(tuple),
        matting=st.none() | st.builds(Matting, foreground=st.integers(0, 270)),
        inpaint=st.lists(region, max_size=3).map(tuple),
        inpaint_scratches=st.booleans(),
        accept_damaged=st.booleans(),
        ignore_series_rule=st.booleans(),
        quality_threshold=st.none() | _SHARE,
        technical_threshold=st.none() | _SHARE,
    )
    return st.builds(lambda one, size: one.model_copy(update=size), without_size, _sizes())


def _sizes() -> st.SearchStrategy[dict[str, Any]]:
    """What a request states of the size of the master: nothing, a scale, or its longest side."""
    scales = st.just("auto") | st.floats(1, 4)
    sides = st.integers(16, 65_535)
    return (
        st.just({})
        | st.fixed_dictionaries({"scale": scales})
        | st.fixed_dictionaries({"longest_side": sides})
    )


def metadata() -> st.SearchStrategy[dict[str, Any]]:
    keys = st.text(string.ascii_letters + " .{}'\"<>é日", min_size=1, max_size=10)
    values: st.SearchStrategy[Any] = st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _TEXT,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
        max_leaves=5,
    )
    return st.dictionaries(keys, values, max_size=3)


def page_requests(
    entry_point: EntryPoint | None = None, out: str | None = None, *, with_owner: bool = True
) -> st.SearchStrategy[PageRequest]:
    identity = st.none() | _TEXT
    return st.builds(
        PageRequest,
        source=_TEXT,
        out=_TEXT if out is None else st.just(out),
        options=options(),
        job_id=_TEXT,
        force=st.booleans(),
        origin=st.builds(
            Origin,
            tool=_TEXT,
            panel_id=identity,
            comic_id=identity,
            callback=identity,
            metadata=metadata(),
            owner=identity if with_owner else st.none(),
            entry_point=st.just(entry_point)
            if entry_point
            else st.sampled_from(["operator", "event", "http"]),
        ),
    )


def book_requests() -> st.SearchStrategy[BookRequest]:
    side = st.none() | st.integers(16, 10_000)
    return st.builds(
        BookRequest,
        source=_TEXT,
        out=_TEXT,
        options=st.builds(
            BookOptions,
            page=options(),
            format=st.sampled_from(["same", "jpeg", "webp", "avif", "png"]),
            quality=st.integers(1, 100),
            longest_side=side,
            height=side,
            name_encoding=st.none() | st.sampled_from(["cp932", "cp437"]),
            xmp=st.booleans(),
        ),
        run_id=_TEXT,
        force=st.booleans(),
    )
