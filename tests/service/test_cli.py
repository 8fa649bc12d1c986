"""The command line as a user meets it: real files and exit codes, in a process of its own where files are read."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from panelworks.cli.output import expand_globs
from tests.commands import run_here
from tests.pages import drawn, file_of, write_page


def panelworks(*arguments: str, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "panelworks", *arguments],
        input=stdin,
        capture_output=True,
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[2],
    )


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("enhance",),
        ("score",),
        ("presets",),
        ("demo",),
        ("models", "list"),
        ("models", "fetch"),
        ("models", "verify"),
    ],
)
def test_every_command_explains_itself(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here(*command, "--help") == 0
    assert command == () or "Example: panelworks" in capsys.readouterr().out


def test_many_sources_give_a_line_each_and_a_bad_one_stops_nobody(tmp_path: Path) -> None:
    for number in (1, 2):
        write_page(tmp_path / f"page{number}.png", seed=number)
    (tmp_path / "page3.png").write_text("no picture")
    done = panelworks("enhance", str(tmp_path / "page*.png"), "--out", str(tmp_path / "out"), "--json")
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [result["status"] for result in results] == ["success", "success", "error"]
    assert results[2]["error"]["code"] == "unsupported_format"
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr


def test_people_get_text(tmp_path: Path) -> None:
    done = panelworks("enhance", str(write_page(tmp_path / "page.png")), "--out", str(tmp_path / "out"))
    assert done.returncode == 0
    assert b"upscaled, 160x200 -> 320x400" in done.stdout


def test_a_picture_comes_on_standard_input(tmp_path: Path) -> None:
    data = file_of(Image.fromarray(drawn(40, 40).pixels))
    done = panelworks("enhance", "-", "--out", str(tmp_path), "--json", stdin=data)
    assert json.loads(done.stdout)["master"]["width"] == 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("enhance",), "Missing argument"),
        (("enhance", "x.png", "--scale", "9"), "--scale"),
        (("enhance", "x.png", "--preset", "nothing"), "comic-page"),
        (("enhance", "x.png", "--model", "nothing"), "panelworks-2x"),
        (("enhance", "x.png", "--model", "isnet-anime"), "does not do 'upscale'"),
        (("enhance", "x.png", "--denoise", "7"), "--denoise"),
        (("enhance", "x.png", "--inpaint", "1,2,3"), "120,80,40,30"),
        (("enhance", "x.png", "--matting", "1,2,300"), "240,10,10"),
        (("models", "fetch", "nothing"), "realesr-animevideov3"),
        (("nonsense",), "No such command"),
    ],
)
def test_wrong_usage_is_two_and_a_sentence(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_here(*arguments) == 2
    assert message in capsys.readouterr().err


def test_wrong_usage_ends_the_process_without_a_traceback() -> None:
    done = panelworks("enhance", "x.png", "--model", "nothing")
    assert done.returncode == 2
    assert b"panelworks-2x" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_bad_setting_is_named() -> None:
    done = panelworks("presets", QUALITY_THRESHOLD="much")
    assert done.returncode == 2
    assert b"QUALITY_THRESHOLD" in done.stderr


def test_score_prints_the_components(tmp_path: Path) -> None:
    page = str(write_page(tmp_path / "page.png"))
    done = panelworks("score", page, "--json")
    report = json.loads(done.stdout)
    assert report["good"] is False
    assert "resolution" in report["reason"]
    assert set(report["components"]) == {
        "sharpness", "noise", "compression", "banding", "halftone", "contrast", "clipping",
    }  # fmt: skip
    assert panelworks("score", page, str(tmp_path / "none.png")).returncode == 1


def test_models_are_listed_and_verified(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in panelworks("models", "list", "--json").stdout.splitlines()]
    bundled = next(row for row in rows if row["name"] == "panelworks-2x")
    assert bundled["installed"]
    assert all(row["licence"] for row in rows)
    assert panelworks("models", "verify").returncode == 0
    (tmp_path / "realesr-animevideov3.pth").write_bytes(b"tampered")
    done = panelworks("models", "verify", MODEL_PATH=str(tmp_path))
    assert done.returncode == 1
    assert b"WRONG HASH" in done.stdout


def test_presets_are_listed() -> None:
    names = [json.loads(line)["name"] for line in panelworks("presets", "--json").stdout.splitlines()]
    assert {"dall-e", "sora", "stable-diffusion", "comic-page"} <= set(names)


def test_globs_are_expanded_and_addresses_left_alone(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", "[odd].png"):
        (tmp_path / name).touch()
    assert expand_globs([f"{tmp_path}/?.png"]) == [f"{tmp_path}/a.png", f"{tmp_path}/b.png"]
    assert expand_globs([f"{tmp_path}/[odd].png"]) == [f"{tmp_path}/[odd].png"]
    assert expand_globs([f"{tmp_path}/*.gif"]) == [f"{tmp_path}/*.gif"]
    assert expand_globs(["https://example.com/a?b=*"]) == ["https://example.com/a?b=*"]


def test_a_real_network_by_name_and_by_path(assets: Path, tmp_path: Path) -> None:
    page, weights = str(write_page(tmp_path / "page.png", 60, 80)), assets / "weights"
    names = ("realesr-animevideov3", str(weights / "realesr-general-x4v3.from-ncnn-fp16.pth"))
    keys = set()
    for name in names:
        done = panelworks(
            "enhance",
            page,
            "--model",
            name,
            "--scale",
            "4",
            "--out",
            str(tmp_path),
            "--json",
            MODEL_PATH=str(weights),
        )
        result = json.loads(done.stdout)
        assert result["status"] == "success"
        assert (result["master"]["width"], result["master"]["height"]) == (240, 320)
        assert result["steps"][0]["digest"]
        keys.add(result["content_key"])
    assert len(keys) == 2
