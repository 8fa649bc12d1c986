"""The alternatives after a plan has failed: in the order of the settings, each once."""

from pathlib import Path

import pytest

from panelworks.domain.cards import BUNDLED
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.plan import Plan
from panelworks.domain.quality import QualityReport
from panelworks.domain.result import Check, Verdict
from panelworks.page.fallbacks import NAMES, alternatives, repeats_failure, repeats_networks
from panelworks.page.pipeline import outranks
from panelworks.page.planning import LANCZOS, plan_for
from panelworks.settings import FallbackMethod, Settings
from panelworks.steps import take_inventory
from tests.networks import random_compact

REPORT = QualityReport(resolution=0.2, technical=0.9, components={"sharpness": 0.9}, overall=0.5)
FAILED = Verdict(passed=False, reason="a tile is dead")
COMPRESSED = REPORT.model_copy(update={"jpeg_quality": 30})
ALL = {
    "inpaint": [{"left": 1, "top": 2, "width": 3, "height": 4}], "fix_artifacts": "on", "descreen": "on",
    "denoise": 0.4, "face": True, "colour": 0.5, "remove_background": True,
}  # fmt: skip


def plan(settings: Settings, **options: object) -> Plan:
    options = {"fix_artifacts": "off", **options}
    settled = EnhanceOptions.model_validate(options).resolve(settings)
    return plan_for((101, 77), settled, take_inventory(settings, settled.model))


def tried(planned: Plan, settings: Settings, report: QualityReport = REPORT) -> dict[str, Plan]:
    return dict(alternatives(planned, report, settings.fallbacks, take_inventory(settings), FAILED))


def actions(planned: Plan) -> list[str]:
    return [step.action for step in planned.steps]


def models(planned: Plan) -> list[str]:
    return [step.model for step in planned.steps]


def test_the_ways_come_in_their_order(settings: Settings, tmp_path: Path, assets: Path) -> None:
    settings = settings.model_copy(update={"model_path": (assets / "weights",)})
    mine = plan(settings, model=str(random_compact(tmp_path / "mine.pth")))
    found = tried(mine, settings)
    assert [models(one)[0] for one in found.values()] == ["mine", "mine", "opencomic-2x", BUNDLED, LANCZOS]
    assert [one.steps[0].precision for one in list(found.values())[:2]] == ["fp32", "fp32"]
    assert found[NAMES["tile"]].steps[0].tile == 128
    assert found[NAMES["fp32"]].steps[0].tile == mine.steps[0].tile
    assert all((one.width, one.height) == (mine.width, mine.height) for one in found.values())


def test_equal_alternatives_are_tried_once(settings: Settings) -> None:
    """If no other network is installed, the plan of the bundled network has three alternatives."""
    found = tried(plan(settings), settings)
    assert list(found) == [NAMES["fp32"], NAMES["tile"], NAMES["lanczos"]]


def test_small_tiles_become_smaller(settings: Settings) -> None:
    settings = settings.model_copy(update={"tile": 96})
    planned = plan(settings)
    steps = tuple(step.model_copy(update={"tile": 96}) for step in planned.steps)
    assert tried(planned.model_copy(update={"steps": steps}), settings)[NAMES["tile"]].steps[0].tile == 48


def test_plain_resampling_has_no_alternative(settings: Settings) -> None:
    assert tried(plan(settings, model=LANCZOS), settings) == {}


def test_a_chain_is_also_tried_without_restoring(settings: Settings) -> None:
    found = tried(plan(settings, **ALL), settings)
    assert actions(found[NAMES["plain"]]) == ["inpaint", "upscale", "resize", "face", "colour", "rembg"]
    assert actions(found[NAMES["lanczos"]]) == ["inpaint", "resize", "face", "colour", "rembg"]


def test_a_compressed_page_is_deblocked_before_it_is_resampled(settings: Settings) -> None:
    found = tried(plan(settings), settings, COMPRESSED)
    assert models(found[NAMES["lanczos"]]) == ["deblock-deband", LANCZOS]


@pytest.mark.parametrize("ways", [("lanczos", "fp32"), ("bundled",), ()])
def test_the_settings_choose_the_ways_and_their_order(
    ways: tuple[FallbackMethod, ...], settings: Settings, tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"fallbacks": ways})
    mine = plan(settings, model=str(random_compact(tmp_path / "mine.pth")))
    assert list(tried(mine, settings)) == [NAMES[way] for way in ways]


def test_an_alternative_without_steps_is_skipped(settings: Settings, assets: Path) -> None:
    """The plan of a good page whose only step restores has no other steps."""
    settings = settings.model_copy(update={"model_path": (assets / "weights",)})
    planned = plan(settings, fix_artifacts="on")
    restoring = tuple(step for step in planned.steps if step.action == "fix_artifacts")
    found = tried(planned.model_copy(update={"steps": restoring}), settings)
    assert NAMES["fp32"] in found
    assert all(one.steps for one in found.values())


def verdict_of(**failed: float) -> Verdict:
    checks = [
        Check(name=name, passed=False, value=value, limit=0.0, message=f"{name} failed")
        for name, value in failed.items()
    ]
    return Verdict(passed=False, reason=checks[0].message, checks=tuple(checks))


@pytest.mark.parametrize(
    ("failed", "numeric"),
    [
        ({"target": 0.3}, False),
        ({"score": 0.1}, False),
        ({"score": 0.1, "target": 0.3}, False),
        ({"seam": 2.0}, True),
        ({"seam": 2.0, "target": 0.3}, True),
    ],
)
def test_precision_and_tiles_are_not_tried_for_a_score(
    failed: dict[str, float], numeric: bool, settings: Settings
) -> None:
    ways = dict(
        alternatives(
            plan(settings), REPORT, settings.fallbacks, take_inventory(settings), verdict_of(**failed)
        )
    )
    assert ({NAMES["fp32"], NAMES["tile"]} <= ways.keys()) is numeric
    assert NAMES["lanczos"] in ways


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ({"halo": 3.0}, {"halo": 3.01}, True),
        ({"halo": 3.0}, {"halo": 2.5}, False),
        ({"halo": 3.0}, {"halo": 3.0, "lines": 1.0}, False),
        ({"halo": 3.0}, {"lines": 3.0}, False),
    ],
)
def test_a_repeated_failure_is_recognised(
    first: dict[str, float], second: dict[str, float], same: bool
) -> None:
    assert repeats_failure(verdict_of(**first), verdict_of(**second)) is same


def test_other_precision_and_tiles_run_the_same_networks(settings: Settings) -> None:
    planned = plan(settings)
    repeated = {name: repeats_networks(planned, other) for name, other in tried(planned, settings).items()}
    assert repeated == {NAMES["fp32"]: True, NAMES["tile"]: True, NAMES["lanczos"]: False}


def scored(score: float, *, target: bool = True) -> Verdict:
    after = REPORT.model_copy(update={"overall": score})
    return (Verdict(passed=True, reason="") if target else verdict_of(target=0.1)).model_copy(
        update={"after": after}
    )


@pytest.mark.parametrize(
    ("verdict", "best", "better"),
    [
        (scored(0.5), None, True),
        (scored(0.5, target=False), None, True),
        (verdict_of(halo=9.0), None, False),
        (verdict_of(halo=9.0, target=0.1), None, False),
        (scored(0.5), scored(0.6, target=False), True),
        (scored(0.9, target=False), scored(0.6), False),
        (scored(0.6), scored(0.6), False),
        (scored(0.61), scored(0.6), False),
        (scored(0.7), scored(0.6), True),
        (scored(0.7, target=False), scored(0.6, target=False), True),
    ],
)
def test_the_best_result_is_kept(verdict: Verdict, best: Verdict | None, better: bool) -> None:
    assert outranks(verdict, best) is better
