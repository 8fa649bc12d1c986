"""Names of models: registered ones, the spellings of other programs, weight files in MODEL_PATH."""

import shutil
from pathlib import Path

import pytest

from panelworks.domain.cards import BUNDLED, CARDS
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.plan import Step
from panelworks.domain.request import Origin, PageRequest
from panelworks.errors import UnknownName, UnsafeSource
from panelworks.models import registry
from panelworks.models.registry import card_for, registered_card
from panelworks.page.entry_points import admit
from panelworks.page.planning import plan_for
from panelworks.settings import Settings
from panelworks.steps import take_inventory

WEIGHTS = Path(registry.__file__).with_name("bundled") / f"{BUNDLED}.safetensors"


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("realesrgan-x4plus-anime", "realesrgan_x4plus_anime_6b"),
        ("realesrgan-anime-6b", "realesrgan_x4plus_anime_6b"),
        ("RealESRGAN_x4plus_anime_6B.pth", "realesrgan_x4plus_anime_6b"),
        ("RealESRGAN_x4plus", "realesrgan_x4plus"),
        ("realesrgan-x4plus", "realesrgan_x4plus"),
        ("RealESRGAN_x4plus.pth", "realesrgan_x4plus"),
        ("realesrgan-x2plus", "realesrgan_x2plus"),
        ("realesr-animevideov3", "realesr-animevideov3"),
        ("realesr_animevideov3_x4", "realesr-animevideov3"),
        ("realesr-general-x4v3.pth", "realesr-general-x4v3"),
        ("aura-sr-v2", "aura-sr-v2"),
        ("AuraSR-v2", "aura-sr-v2"),
        ("fal/AuraSR-v2", "aura-sr-v2"),
        ("GFPGANv1.4", "gfpgan-1.4"),
        ("GFPGANv1.4.pth", "gfpgan-1.4"),
        ("gfpgan", "gfpgan-1.4"),
        ("isnet-anime.onnx", "isnet-anime"),
        ("opencomic_2x", "opencomic-2x"),
        ("opencomic-ai-upscale-2x-compact-450000.pth", "opencomic-2x"),
        ("Panelworks-2x", "panelworks-2x"),
    ],
)
def test_common_spellings_name_the_model(given: str, name: str) -> None:
    card = registered_card(given)
    assert card is not None
    assert card.name == name


def test_every_model_is_found_by_its_own_name_and_file() -> None:
    for card in CARDS.values():
        assert registered_card(card.name) is card
        if card.architecture != "part":
            assert registered_card(card.file) is card


@pytest.mark.parametrize("given", ["", "nothing", "realesrgan-x8plus", "../x4plus.pth", ".pth"])
def test_unknown_names_are_refused(given: str, settings: Settings) -> None:
    assert registered_card(given) is None
    with pytest.raises(UnknownName, match="neither a known model"):
        card_for(given, settings)


def test_a_client_may_use_aliases_but_not_files(tmp_path: Path, settings: Settings) -> None:
    shutil.copy(WEIGHTS, tmp_path / "mine.safetensors")
    settings = settings.model_copy(update={"model_path": (tmp_path,)})

    def asked(model: str) -> PageRequest:
        options = EnhanceOptions(model=model)
        out, origin = settings.default_out, Origin(tool="http", entry_point="http")
        return PageRequest(source="https://a.test/1.png", out=out, options=options, job_id="1", origin=origin)

    admit(asked("realesrgan-x4plus-anime"), settings)
    with pytest.raises(UnsafeSource, match="Only known networks"):
        admit(asked("mine.safetensors"), settings)


def test_a_file_name_in_model_path_is_a_model(tmp_path: Path, settings: Settings) -> None:
    shutil.copy(WEIGHTS, tmp_path / "mine.safetensors")
    settings = settings.model_copy(update={"model_path": (tmp_path,)})
    (step,) = _enlarging(EnhanceOptions(model="mine.safetensors"), settings)
    assert step.weights == str(tmp_path / "mine.safetensors")
    assert step.digest == CARDS[BUNDLED].sha256


def test_a_file_in_model_path_has_precedence_over_an_alias(tmp_path: Path, settings: Settings) -> None:
    shutil.copy(WEIGHTS, tmp_path / "realesrgan-x4plus.safetensors")
    settings = settings.model_copy(update={"model_path": (tmp_path,)})
    assert card_for("realesrgan-x4plus.safetensors", settings).path is not None
    assert card_for("realesrgan-x4plus", settings) is CARDS["realesrgan_x4plus"]


def test_model_path_may_be_one_file_which_becomes_the_default_network(
    tmp_path: Path, settings: Settings
) -> None:
    file = tmp_path / "upscaler.safetensors"
    shutil.copy(WEIGHTS, file)
    settings = settings.model_copy(update={"model_path": (file,)})
    for scale in (2.0, 4.0):
        (step,) = _enlarging(EnhanceOptions(scale=scale), settings)
        assert (step.model, step.weights) == ("upscaler", str(file))
    (step,) = _enlarging(EnhanceOptions(model=BUNDLED), settings)
    assert step.model == BUNDLED
    assert card_for("upscaler.safetensors", settings).path == file


def test_the_error_names_a_missing_default_network(tmp_path: Path, settings: Settings) -> None:
    settings = settings.model_copy(update={"model_path": (tmp_path / "gone.pth",)})
    with pytest.raises(UnknownName, match=r"gone\.pth"):
        _enlarging(EnhanceOptions(), settings)


def _enlarging(options: EnhanceOptions, settings: Settings) -> list[Step]:
    plan = plan_for((64, 64), options.resolve(settings), take_inventory(settings, options.model))
    return [step for step in plan.steps if step.action == "upscale"]
