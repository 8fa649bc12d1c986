"""Rules and shared levels in books."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from panelworks.books.backfill import done_before, request_of
from panelworks.books.direct import enhance_book_directly
from panelworks.domain.books import BookOptions
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.treatment import Rule, Treatment
from panelworks.page.engine import Engine
from panelworks.page.series import SeriesRule
from tests.books import page_file, write_zip
from tests.pages import drawn, file_of

INK = np.array((40, 34, 30))


def yellowed(paper: tuple[int, int, int], seed: int) -> bytes:
    """A gray page on yellowed paper, with a margin."""
    page = np.pad(drawn(96, 128, "ink", seed).pixels[:, :, 0], 16, constant_values=255)[:, :, None] / 255
    return file_of(Image.fromarray(np.rint(INK + page * (np.array(paper) - INK)).astype(np.uint8)))


def enhanced(
    folder: Path, engine: Engine, options: EnhanceOptions
) -> tuple[list[npt.NDArray[np.uint8]], list[dict[str, Any]]]:
    """The pages of the finished book, and what its provenance says of each."""
    wanted = BookOptions(page=options)
    request = request_of(
        str(folder / "book.cbz"), str(folder / "out.cbz"), wanted, engine.settings, "run", force=False
    )
    assert enhance_book_directly(request, engine).status == "success"
    with zipfile.ZipFile(folder / "out.cbz") as book:
        about = json.loads(book.read("panelworks.json"))["pages"]
        pages = [
            np.asarray(Image.open(io.BytesIO(book.read(one["files"][0]))).convert("RGB")) for one in about
        ]
    return pages, about


def test_pages_on_similar_paper_get_the_same_levels_and_the_cover_its_own(
    tmp_path: Path, engine: Engine
) -> None:
    papers = [(226, 204, 158), (228, 206, 160), (230, 208, 162)]
    entries = [(f"{number}.png", yellowed(paper, number)) for number, paper in enumerate(papers, start=1)]
    white = file_of(
        Image.fromarray(np.pad(drawn(96, 128).pixels, ((16, 16), (16, 16), (0, 0)), constant_values=255))
    )
    write_zip(tmp_path / "book.cbz", [("0.png", white), *entries])
    pages, about = enhanced(tmp_path, engine, EnhanceOptions(levels=1.0))
    cover, *inside = [page[2, 2].astype(int) for page in pages]
    assert cover.tolist() == [255] * 3
    expected = [
        np.clip((np.array(paper) - INK) / (np.array(papers[1]) - INK), 0, 1) * 255 for paper in papers
    ]
    for margin, wanted in zip(inside, expected, strict=True):
        assert np.abs(margin - wanted).max() <= 3, (margin, wanted)
    assert about[1]["steps"][0]["action"] == "levels"


def test_rules_see_the_book_and_the_name_of_the_page(tmp_path: Path, engine: Engine) -> None:
    write_zip(
        tmp_path / "book.cbz",
        [("art/1.png", page_file(1)), ("art/2.png", page_file(2)), ("x/3.png", page_file(3))],
    )
    rules = tuple(
        Rule.model_validate(rule)
        for rule in (
            {"name": "second", "when": {"path": "*book.cbz/art/2.png"}, "then": {"scale": 2}},
            {"name": "another book", "when": {"series": "akira*"}, "then": {"scale": 4}},
            {"name": "this book", "when": {"series": "BOOK"}, "then": {"scale": 1.5}},
        )
    )
    pages, about = enhanced(tmp_path, engine, EnhanceOptions(rules=rules))
    assert [page.shape[1] / 96 for page in pages] == [1.5, 2.0, 1.5]
    assert [one["rule"]["name"] for one in about] == ["this book", "second", "this book"]


def test_a_book_follows_the_rule_of_its_series(tmp_path: Path, engine: Engine) -> None:
    """The pages, their shared levels, and the register: a book whose rule changed is not finished."""
    papers = [(226, 204, 158), (228, 206, 160), (230, 208, 162)]
    entries = [(f"{number}.png", yellowed(paper, number)) for number, paper in enumerate(papers, start=1)]
    write_zip(tmp_path / "book.cbz", entries)

    def process() -> tuple[bool, float]:
        """Whether the book was finished before, and the width of its first page over that of its source."""
        request = request_of(
            str(tmp_path / "book.cbz"), str(tmp_path / "out.cbz"), BookOptions(), engine.settings, "run", force=False
        )  # fmt: skip
        finished = done_before([request], engine.settings)
        result = enhance_book_directly(request, engine)
        assert result.status == "success"
        assert bool(finished) == result.skipped
        with zipfile.ZipFile(tmp_path / "out.cbz") as book:
            about = json.loads(book.read("panelworks.json"))
            page = Image.open(io.BytesIO(book.read(about["pages"][0]["files"][0])))
        assert about["options"] == ({"page": stated} if stated else {})
        return result.skipped, page.width / 128

    def choose(owner: str | None, series: str, **treatment: Any) -> None:
        engine.series.store(
            SeriesRule(owner=owner, series=series, treatment=Treatment(**treatment), set_by="operator")
        )

    stated: dict[str, Any] = {}
    before = process()[1]
    assert process() == (True, before)
    choose("studio", "book", scale=3)
    choose(None, "another", scale=3)
    assert process() == (True, before), "rules of others"
    stated = {"levels": 1.0, "model": "lanczos", "scale": 1.5}
    choose(None, "BOOK", **stated)
    assert process() == (False, 1.5)
    points = {
        json.dumps(step["config"]["points"])
        for one in read_provenance(tmp_path / "out.cbz")
        for step in one["steps"]
        if step["action"] == "levels"
    }
    assert len(points) == 1, "paper and ink are those of the book"
    assert process() == (True, 1.5)
    stated = {"scale": 1.25}
    choose(None, "book", **stated)
    assert process() == (False, 1.25)
    stated = {}
    engine.series.remove(None, "book")
    assert process() == (False, before)


def read_provenance(book: Path) -> list[dict[str, Any]]:
    with zipfile.ZipFile(book) as file:
        pages: list[dict[str, Any]] = json.loads(file.read("panelworks.json"))["pages"]
        return pages
