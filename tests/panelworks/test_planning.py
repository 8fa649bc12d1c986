from pathlib import Path

import pytest

from panelworks import planning
from panelworks.errors import Misconfigured, Transient
from panelworks.models.registry import BUNDLED, DEFAULT_4X
from panelworks.planning import LANCZOS, alternatives, plan_for
from panelworks.records import EnhanceOptions, Plan
from panelworks.settings import Settings
from tests.pages import random_compact


def plan(settings: Settings, **options: object) -> Plan:
    return plan_for((101, 77), EnhanceOptions.model_validate(options).settled(settings), settings)


def models(plan: Plan) -> list[str]:
    return [step.model for step in plan.steps]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(*_: object) -> Path:
        raise Transient("weights_unavailable", "No network.")

    planning._obtainable.cache_clear()
    monkeypatch.setattr(planning, "weights_path", unavailable)


@pytest.mark.parametrize(("scale", "size"), [(1.0, (101, 77)), (1.5, (152, 116)), (2.0, (202, 154))])
def test_up_to_twice_the_bundled_network_and_an_exact_resize(
    scale: float, size: tuple[int, int], settings: Settings
) -> None:
    planned = plan(settings, scale=scale)
    assert models(planned) == [BUNDLED, LANCZOS]
    assert (planned.width, planned.height) == size


def test_above_twice_a_4x_network(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    planning._obtainable.cache_clear()
    monkeypatch.setattr(planning, "weights_path", lambda *_: Path("there"))
    assert models(plan(settings, scale=2.1)) == [DEFAULT_4X, LANCZOS]


@pytest.mark.usefixtures("offline")
def test_without_a_network_the_bundled_one_runs_twice(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    assert models(plan(settings, scale=4)) == [BUNDLED, BUNDLED, LANCZOS]
    assert "runs twice" in caplog.text


def test_a_named_model_is_taken_at_any_scale(settings: Settings) -> None:
    assert models(plan(settings, scale=2, model="RealESRGAN_x4plus")) == ["realesrgan_x4plus", LANCZOS]
    assert models(plan(settings, scale=3, model=LANCZOS)) == [LANCZOS]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"model": "nothing"}, "unknown_model"),
        ({"face": True}, "no_provider"),
        ({"remove_background": True}, "no_provider"),
    ],
)
def test_what_nothing_performs_is_said_at_once(
    options: dict[str, object], code: str, settings: Settings
) -> None:
    with pytest.raises(Misconfigured) as caught:
        plan(settings, **options)
    assert caught.value.code == code


def test_the_alternatives_end_with_lanczos(settings: Settings, tmp_path: Path) -> None:
    mine = plan(settings, model=str(random_compact(tmp_path / "mine.pth")))
    tried = alternatives(mine, settings)
    assert [models(one)[0] for _, one in tried] == ["mine", BUNDLED, LANCZOS]
    careful = tried[0][1].steps[0]
    assert (careful.precision, careful.tile) == ("fp32", 128)
    assert all((one.width, one.height) == (mine.width, mine.height) for _, one in tried)
    assert [models(one)[0] for _, one in alternatives(plan(settings), settings)] == [BUNDLED, LANCZOS]
    assert alternatives(plan(settings, model=LANCZOS), settings) == ()
