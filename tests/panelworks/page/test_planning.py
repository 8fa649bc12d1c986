import builtins
import io
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from panelworks.domain.cards import BUNDLED, CARDS
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.plan import Plan
from panelworks.domain.quality import Content, Kind, QualityReport
from panelworks.errors import Misconfigured
from panelworks.page.planning import LANCZOS, chosen, plan_for
from panelworks.settings import Settings
from panelworks.steps import take_inventory


def plan(settings: Settings, **options: object) -> Plan:
    options = {"fix_artifacts": "off", **options}
    settled = EnhanceOptions.model_validate(options).resolve(settings)
    return plan_for((101, 77), settled, take_inventory(settings, settled.model))


def models(plan: Plan) -> list[str]:
    return [step.model for step in plan.steps]


def actions(plan: Plan | None) -> list[str]:
    return [step.action for step in plan.steps] if plan else []


def report(jpeg_quality: int | None = None, kind: Kind = "colour", dots: float = 0.0) -> QualityReport:
    return QualityReport(
        resolution=0.2,
        technical=0.9,
        components={"sharpness": 0.9},
        overall=0.5,
        jpeg_quality=jpeg_quality,
        content=Content(kind=kind, colour=0.5, dots=dots, flat=0.5),
    )


@pytest.mark.parametrize(("scale", "size"), [(1.0, (101, 77)), (1.5, (152, 116)), (2.0, (202, 154))])
def test_up_to_twice_the_bundled_network_and_an_exact_resize(
    scale: float, size: tuple[int, int], settings: Settings
) -> None:
    planned = plan(settings, scale=scale)
    assert models(planned) == [BUNDLED, LANCZOS]
    assert (planned.width, planned.height) == size


def test_above_twice_the_bundled_network_runs_twice(settings: Settings, assets: Path) -> None:
    with_files = settings.model_copy(update={"model_path": (assets / "weights",)})
    assert models(plan(settings, scale=2.1)) == [BUNDLED, BUNDLED, LANCZOS]
    assert models(plan(with_files, scale=4)) == [BUNDLED, BUNDLED, LANCZOS]


@pytest.mark.parametrize("options", [{}, {"scale": 4.0}, {"model": "aura-sr-v2"}, {"fix_artifacts": "auto"}])
def test_plans_are_made_without_disk_and_network(
    options: dict[str, object], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the weights are installed or obtainable changes nothing, and planning looks at neither."""
    settled = EnhanceOptions.model_validate(options).resolve(settings)
    inventory = take_inventory(settings, settled.model)
    names = frozenset(CARDS)
    obtainable = inventory.model_copy(update={"installed": frozenset(), "obtainable": names})
    installed = inventory.model_copy(update={"installed": names, "obtainable": frozenset()})

    def refuse(*_: object, **__: object) -> Any:
        raise AssertionError("planning looks at the machine")

    with monkeypatch.context() as patched:
        for owner, name in (
            (builtins, "open"),
            (os, "stat"),
            (os, "listdir"),
            (socket, "socket"),
            (io, "open"),
        ):
            patched.setattr(owner, name, refuse)
        plans = [plan_for((101, 77), settled, one) for one in (obtainable, installed)]
    assert plans[0] == plans[1]


def test_a_named_model_is_taken_at_any_scale(settings: Settings) -> None:
    assert models(plan(settings, scale=2, model="RealESRGAN_x4plus")) == ["realesrgan_x4plus", LANCZOS]
    assert models(plan(settings, scale=3, model=LANCZOS)) == [LANCZOS]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"model": "nothing"}, "unknown_model"),
        ({"model": "isnet-anime"}, "unknown_model"),
    ],
)
def test_what_nothing_performs_is_said_at_once(
    options: dict[str, object], code: str, settings: Settings
) -> None:
    with pytest.raises(Misconfigured) as caught:
        plan(settings, **options)
    assert caught.value.code == code


ALL = {
    "inpaint": [{"left": 1, "top": 2, "width": 3, "height": 4}], "fix_artifacts": "on", "descreen": "on",
    "denoise": 0.4, "face": True, "colour": 0.5, "remove_background": True,
}  # fmt: skip


def test_a_chain_has_its_order(settings: Settings) -> None:
    assert actions(plan(settings, **ALL)) == [
        "inpaint", "fix_artifacts", "descreen", "denoise", "upscale", "resize", "face", "colour", "rembg",
    ]  # fmt: skip


def test_a_good_page_gets_what_was_asked_for_and_keeps_its_size(settings: Settings) -> None:
    everything = chosen(plan(settings, **ALL), report(), good=True, size=(101, 77))
    assert actions(everything) == [
        "inpaint", "fix_artifacts", "descreen", "denoise", "face", "colour", "rembg",
    ]  # fmt: skip
    assert everything is not None
    assert (everything.width, everything.height) == (101, 77)
    assert chosen(plan(settings), report(), good=True, size=(101, 77)) is None


@pytest.mark.parametrize(
    ("quality", "weights_here", "taken"),
    [
        (None, False, []),
        (20, False, ["deblock-deband"]),
        (60, False, []),
        (60, True, ["opencomic-artifact-removal"]),
        (90, True, []),
        (None, True, []),
    ],
)
def test_jpeg_artifacts_are_fixed_where_that_helps(
    quality: int | None, weights_here: bool, taken: list[str], assets: Path, settings: Settings
) -> None:
    if weights_here:
        settings = settings.model_copy(update={"model_path": (assets / "weights",)})
    planned = chosen(plan(settings, fix_artifacts="auto"), report(quality), good=False, size=(101, 77))
    assert planned is not None
    assert [step.model for step in planned.steps if step.action == "fix_artifacts"] == taken


@pytest.mark.parametrize(
    ("kind", "dots", "taken"),
    [("colour", 0.5, True), ("colour", 0.0, False), ("screentone", 0.5, False), ("gray", 0.0, False)],
)
def test_only_printed_colour_is_descreened_by_itself(
    kind: Kind, dots: float, taken: bool, assets: Path, settings: Settings
) -> None:
    here = settings.model_copy(update={"model_path": (assets / "weights",)})
    planned = chosen(plan(here, descreen="auto"), report(kind=kind, dots=dots), good=False, size=(9, 9))
    assert ("descreen" in actions(planned)) is taken
    assert "descreen" not in actions(plan(settings, descreen="auto")), "its file cannot be fetched"


def test_a_network_that_denoises_itself_needs_no_step(settings: Settings) -> None:
    whole = plan(settings, model="realesr-general-x4v3", denoise=0.3)
    planned = chosen(whole, report(), good=False, size=(9, 9))
    assert planned is not None
    assert actions(planned) == ["upscale", "resize"]
    assert planned.steps[0].config["strength"] == 0.3
    assert planned.steps[0].config["partner"] == "realesr-general-wdn-x4v3"
    assert "partner" not in plan(settings, model="realesr-general-x4v3", denoise=1).steps[-2].config
    assert actions(chosen(whole, report(), good=True, size=(9, 9))) == ["denoise"]


@pytest.mark.parametrize(
    ("options", "faithful"),
    [
        ({}, ["upscale", "resize"]),
        (ALL, ["denoise", "upscale", "resize"]),
        ({"fix_artifacts": "on"}, ["fix_artifacts", "upscale", "resize"]),
        ({"colour": 0.5}, ["upscale", "resize"]),
    ],
)
def test_the_validator_judges_what_is_meant_to_be_faithful(
    options: dict[str, object], faithful: list[str], settings: Settings
) -> None:
    planned = plan(settings, **options)
    assert [step.action for step in planned.steps[planned.faithful]] == faithful
    requested = chosen(planned, report(), good=True, size=(9, 9))
    if requested is not None and "colour" in options and len(options) == 1:
        assert requested.steps[requested.faithful] == ()


@pytest.mark.parametrize(
    ("kind", "paper", "good", "runs"),
    [("line_art", 0.6, False, True), ("colour", 0.3, False, True), ("colour", 0.02, False, False),
     ("photograph", 0.3, False, False), ("line_art", 0.6, True, True), ("colour", 0.02, True, False)],
)  # fmt: skip
def test_levels_are_for_pages_with_visible_paper(
    kind: Kind, paper: float, good: bool, runs: bool, settings: Settings
) -> None:
    found = report(kind=kind)
    assert found.content is not None
    found = found.model_copy(update={"content": found.content.model_copy(update={"paper": paper})})
    wanted = chosen(plan(settings, levels=0.5), found, good=good, size=(101, 77))
    assert ("levels" in actions(wanted)) == runs


@pytest.mark.parametrize(
    ("switch", "kind", "tint", "runs"),
    [("auto", "gray", 2.0, True), ("auto", "gray", 20.0, False), ("auto", "colour", 0.0, False),
     ("on", "colour", 20.0, True), ("off", "gray", 0.0, False)],
)  # fmt: skip
def test_gray_removes_colour_only_where_it_is_noise_unless_it_is_on(
    switch: str, kind: Kind, tint: float, runs: bool, settings: Settings
) -> None:
    found = report(kind=kind)
    assert found.content is not None
    found = found.model_copy(update={"content": found.content.model_copy(update={"tint": tint})})
    wanted = chosen(plan(settings, gray=switch), found, good=False, size=(101, 77))
    assert ("gray" in actions(wanted)) == runs
