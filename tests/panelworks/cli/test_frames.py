"""`panelworks frames`, as a user calls it."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from panelworks.cli.frames import Selection, choose_selection
from panelworks.errors import Misconfigured
from tests.commands import run_here
from tests.videos import write_story


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_story(tmp_path_factory.mktemp("videos") / "story.mp4", options={"g": "20", "crf": "18"})


def call(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, list[dict[str, Any]]]:
    """Run the command with `--json`; returns its exit code and the lines."""
    code = run_here("frames", *map(str, arguments), "--json")
    return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (("--every", "2s"), 4),
        (("--scenes",), 3),
        ((), 3),
        (("--count", "5"), 5),
        (("--poster",), 1),
    ],
)
def test_frames_are_written(
    options: tuple[str, ...], count: int, story: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = call(capsys, story, *options, "--out", tmp_path / "out", "--sheet")
    assert code == 0
    *frames, sheet = lines
    assert len(frames) == count == sheet["frames"]
    for line in frames:
        assert line["source"].startswith(f"{story}#t=")
        assert line["error"] is None
        with Image.open(line["uri"].removeprefix("file://")) as image:
            assert image.size == (line["width"], line["height"])
    with Image.open(tmp_path / "out" / "story-sheet.png") as image:
        assert image.size == (sheet["width"], sheet["height"])
    if options == ("--every", "2s"):
        assert [line["seconds"] for line in frames] == [0.0, 2.0, 4.0, 6.0]
        assert (tmp_path / "out" / "story-00-00-02.000.png").exists()


def test_a_moment_is_one_frame(story: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = call(capsys, f"{story}#t=1.5", "--out", tmp_path)
    assert (code, [line["seconds"] for line in lines]) == (0, [1.5])


def test_frames_are_enhanced_like_pages(
    story: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = call(capsys, story, "--poster", "--enhance", "--sheet", "--out", tmp_path, "--scale", "2")
    assert code == 0
    frame, result, sheet = lines
    assert result["source"]["uri"] == frame["uri"]
    assert result["master"]["width"] in (frame["width"], 2 * frame["width"])
    assert sheet["frames"] == 1


def test_a_video_that_fails_does_not_stop_the_others(
    story: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.mp4").write_bytes(story.read_bytes()[:3000])
    code, lines = call(
        capsys, tmp_path / "broken.mp4", tmp_path / "none.mp4", story, "--poster", "--out", tmp_path / "out"
    )
    assert code == 1
    assert [(line["error"] or {}).get("code") for line in lines] == ["damaged", "not_found", None]


@pytest.mark.parametrize(
    "options",
    [
        ("--every", "0s"),
        ("--every", "soon"),
        ("--every", "1s", "--scenes"),
        ("--count", "0"),
        ("--poster", "--count", "3"),
        ("--enhance", "--preset", "nothing"),
    ],
)
def test_wrong_usage_has_its_own_exit_code(options: tuple[str, ...], story: Path, tmp_path: Path) -> None:
    assert run_here("frames", str(story), *options, "--out", str(tmp_path)) == 2


def test_too_many_frames_are_refused(story: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = call(capsys, story, "--every", "1ms", "--out", tmp_path)
    assert (code, lines[0]["error"]["code"]) == (1, "too_many_frames")


@pytest.mark.parametrize(
    ("text", "seconds"), [("5", 5.0), ("5s", 5.0), ("500ms", 0.5), ("1.5min", 90.0), ("1h", 3600.0)]
)
def test_times_have_units(text: str, seconds: float) -> None:
    found = choose_selection(every=text, scenes=False, count=None, poster=False)
    assert found == Selection(mode="every", seconds=seconds)
    with pytest.raises(Misconfigured):
        choose_selection(every="5 apples", scenes=False, count=None, poster=False)
