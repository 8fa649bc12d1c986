"""Comparing models: a table, a contact sheet, and nothing delivered."""

import asyncio
import json
from pathlib import Path

from PIL import Image

from flows.compare_models import compare_models
from panelworks import EnhanceOptions
from tests.networks import random_compact
from tests.pages import write_page


def test_every_model_on_every_page(tmp_path: Path) -> None:
    pages = [str(write_page(tmp_path / f"page-{seed}.png", 200, 180, seed=seed)) for seed in (41, 42)]
    (tmp_path / "text.png").write_text("no picture")
    mine = random_compact(tmp_path / "mine.pth", strength=3.0, seed=5)
    trials = asyncio.run(
        compare_models(
            [*pages, str(tmp_path / "text.png")],
            ["auto", "lanczos", str(mine)],
            variations=[EnhanceOptions(scale=1.5, colour=0.5)],
            out=str(tmp_path / "out"),
            price_per_hour=2.0,
        )
    )
    assert [(trial.page, trial.label) for trial in trials] == [
        (page, label)
        for page in ("page-41", "page-42")
        for label in ("auto", "lanczos", "mine", "variation 1")
    ]
    # The verdict on the variation differs between CPUs: it loses technical quality, about as much as is allowed.
    assert {trial.label for trial in trials if not trial.passed} - {"variation 1"} == {"mine"}
    for trial in trials:
        assert trial.seconds > 0
        assert trial.cost == round(trial.seconds / 3.6 * 2, 2) or abs(trial.cost - trial.seconds / 1.8) < 0.02  # type: ignore[operator]
    lines = (tmp_path / "out" / "comparison" / "trials.jsonl").read_text().splitlines()
    assert [json.loads(line)["label"] for line in lines] == [trial.label for trial in trials]
    with Image.open(tmp_path / "out" / "comparison" / "contact-sheet.png") as sheet:
        assert sheet.size == (5 * 368 + 8, 2 * 390 + 8)
    assert not (tmp_path / "out" / "upscaled").exists()
