"""Placeholders and previews: what they are, and when and where they are published."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from panelworks.domain.options import EnhanceOptions
from panelworks.domain.request import JobKey, PageRequest
from panelworks.domain.result import PageResult
from panelworks.page.decisions import Decision
from panelworks.page.direct import enhance_directly
from panelworks.page.engine import Engine
from panelworks.page.placeholders import MAX_PREVIEW_BYTES, make_early_view
from panelworks.page.review import Reviews
from panelworks.pictures import Picture
from panelworks.settings import ReviewPolicy
from panelworks.storage.headers import IMMUTABLE, cache_control_of
from tests.pages import drawn, write_page


def noise(width: int, height: int) -> Picture:
    return Picture(np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("picture", "longest"),
    [
        (drawn(), 150),
        (drawn(1000, 1400), 256),
        (drawn(700, 900, "screentone"), 100),
        (noise(2000, 300), 48),
        (noise(1, 5000), 20),
        (Picture(np.zeros((1, 1, 1), dtype=np.uint8)), 1),
    ],
    ids=["small", "colour", "screentone", "noise", "thin", "one-pixel"],
)
def test_a_preview_is_small_and_shows_the_page(picture: Picture, longest: int) -> None:
    view = make_early_view(picture)
    assert len(view.preview) <= MAX_PREVIEW_BYTES
    with Image.open(io.BytesIO(view.preview)) as image:
        assert (image.format, image.size) == ("WEBP", view.size)
        assert longest <= max(image.size) <= 256
        small = Image.fromarray(picture.rgb()).resize((4, 4), Image.Resampling.BOX)
        error = np.asarray(small, dtype=float) - np.asarray(image.convert("RGB").resize((4, 4)), dtype=float)
        assert np.abs(error).mean() < 30


@given(st.integers(1, 400), st.integers(1, 400), st.booleans(), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_any_picture_has_both(width: int, height: int, transparent: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (height, width, random.choice([1, 3])), dtype=np.uint8)
    alpha = random.integers(0, 256, (height, width), dtype=np.uint8) if transparent else None
    view = make_early_view(Picture(pixels, alpha))
    assert len(view.preview) <= MAX_PREVIEW_BYTES
    assert 5 < len(base64.b64decode(view.placeholder.thumbhash)) < 40
    assert len(view.placeholder.colour) == 7


def request(folder: Path, review: ReviewPolicy | None = None) -> PageRequest:
    page = folder / "page.png"
    source = page if page.exists() else write_page(page)
    options = EnhanceOptions(review=review)
    return PageRequest(source=str(source), out=str(folder / "out"), job_id="job", options=options)


def delivered(folder: Path) -> set[str]:
    return {
        path.relative_to(folder / "out").parts[0] for path in (folder / "out").rglob("*") if path.is_file()
    }


def test_it_is_published_before_the_page_is_enhanced(tmp_path: Path, engine: Engine) -> None:
    wanted = request(tmp_path)
    page = engine.ingest(wanted)
    published = engine.publish_preview(wanted, page)
    assert published and published.uri.endswith(f"/previews/{page.content_key}.webp")
    assert delivered(tmp_path) == {"previews"}
    assert cache_control_of(f"previews/{page.content_key}.webp") == IMMUTABLE
    result = enhance_directly(wanted, engine)
    assert (result.placeholder, result.preview) == (page.placeholder, published)


def test_a_known_page_of_which_only_the_header_is_read_has_them_too(tmp_path: Path, engine: Engine) -> None:
    wanted = request(tmp_path)
    first = enhance_directly(wanted, engine)
    page = engine.identify(wanted)
    assert page.preview is None
    outcome = engine.recall(page)
    assert outcome is not None
    again = engine.publish(wanted, page, outcome, cached=True)
    assert (again.placeholder, again.preview) == (first.placeholder, first.preview)
    assert first.preview is not None


def test_a_destination_that_refuses_the_preview_does_not_stop_the_page(
    tmp_path: Path, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = request(tmp_path)
    page = engine.ingest(wanted)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "previews").write_text("a file in the way")
    with caplog.at_level("WARNING", "panelworks.page.delivery"):
        assert engine.publish_preview(wanted, page) == page.preview
    assert "preview of page not published" in caplog.text


@pytest.mark.parametrize("approve", [True, False])
def test_of_a_page_in_review_it_is_published_with_the_decision(
    tmp_path: Path, engine: Engine, approve: bool
) -> None:
    wanted = request(tmp_path, "always")
    page = engine.ingest(wanted)
    kept = engine.publish_preview(wanted, page)
    assert kept == page.preview
    assert not (tmp_path / "out").exists()
    result: PageResult = enhance_directly(wanted, engine)
    assert delivered(tmp_path) == {"review"}
    assert result.preview and "/review/previews/" in result.preview.uri
    decision = Decision(state="approved" if approve else "rejected", by="editor")
    decided = Reviews(engine).decide(JobKey(None, "job"), decision).result
    assert decided.preview and decided.preview.uri.endswith(f"/out/previews/{page.content_key}.webp")
    assert "review" not in delivered(tmp_path)
