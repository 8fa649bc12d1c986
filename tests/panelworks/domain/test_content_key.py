from typing import Any

import pytest

from panelworks.domain import plan
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.plan import content_key
from panelworks.page.planning import plan_for
from panelworks.settings import Settings
from panelworks.steps import take_inventory

SOURCE = "f" * 64


def key(
    settings: Settings, source: str = SOURCE, size: tuple[int, int] = (100, 80), **options: object
) -> str:
    settled = EnhanceOptions.model_validate(options).resolve(settings)
    planned = plan_for(size, settled, take_inventory(settings, settled.model))
    return content_key(source, [(None, settled, planned)])


def test_the_same_work_has_the_same_key(settings: Settings) -> None:
    assert key(settings) == key(settings)
    assert len(key(settings)) == 64


def test_another_engine_has_another_key(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key(settings)
    monkeypatch.setattr(plan, "ENGINE_VERSION", "an earlier one")
    assert key(settings) != before


def test_spelling_out_a_default_changes_nothing(settings: Settings) -> None:
    assert key(settings) == key(settings, scale=2.0, quality_threshold=0.5, model="panelworks-2x")


@pytest.mark.parametrize(
    "options",
    [
        {"scale": 1.5},
        {"preset": "sora"},
        {"model": "lanczos"},
        {"quality_threshold": 0.4},
        {"technical_threshold": 0.1},
        {"fix_artifacts": "off"},
        {"fix_artifacts": "on"},
        {"fix_artifacts": "regions"},
        {"detect": "report"},
        {"detect": "inpaint"},
        {"descreen": "on"},
        {"levels": 0.5},
        {"levels": 0.5, "tone_points": {"white": [230, 220, 180], "black": [20, 20, 20]}},
        {"gray": "on"},
        {"format": "avif"},
        {"colour": 0.5},
        {"inpaint": [{"left": 1, "top": 1, "width": 2, "height": 2}]},
        {"inpaint_scratches": True},
        {"model": "realesr-general-x4v3", "denoise": 0.2},
    ],
)
def test_whatever_changes_the_result_changes_the_key(options: dict[str, Any], settings: Settings) -> None:
    assert key(settings, **options) != key(settings)


def test_the_source_is_part_of_the_key(settings: Settings) -> None:
    assert key(settings, source="e" * 64) != key(settings)


def test_settings_that_change_the_result_change_the_key(settings: Settings) -> None:
    for update in ({"upscale_scale": 1.7}, {"quality_threshold": 0.2}):
        assert key(settings.model_copy(update=update)) != key(settings)


def test_where_a_weight_file_lies_does_not_count(settings: Settings, tmp_path: object) -> None:
    import shutil
    from pathlib import Path

    from tests.networks import random_compact

    folder = Path(str(tmp_path))
    first = random_compact(folder / "one.pth")
    second = shutil.copy(first, folder / "two.pth")
    other = random_compact(folder / "three.pth", seed=9)
    assert key(settings, model=str(first)) == key(settings, model=str(second))
    assert key(settings, model=str(first)) != key(settings, model=str(other))
