"""Photographed faces are restored and drawn ones are not. The notes report both."""

from pathlib import Path

import numpy as np
import pytest

from panelworks.domain.cards import CARDS
from panelworks.pictures import Picture, decode
from panelworks.settings import Settings
from panelworks.steps import Work, provider_named, step_for, take_inventory
from panelworks.steps import face as face_provider
from tests.networks import stand_in


def use_face_weights(folder: Path, real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the registered face networks by those of the tests."""
    stand_in(monkeypatch, "gfpgan-1.4", folder / "GFPGANv1.4.pth")
    stand_in(monkeypatch, "parsing-parsenet", folder / "parsing_parsenet.pth")
    stand_in(monkeypatch, "retinaface-mobilenet", real / "retinaface_mobilenet0.25.biubug6-1MB.pth")
    card = CARDS["gfpgan-1.4"]
    parts = ("retinaface-mobilenet", *card.parts[1:])
    monkeypatch.setitem(CARDS, "gfpgan-1.4", card.model_copy(update={"parts": parts}))
    face_provider._load_networks.cache_clear()


@pytest.fixture
def faces(face_weights: Path, assets: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    use_face_weights(face_weights, assets / "weights", monkeypatch)
    return settings.model_copy(update={"model_path": (face_weights, assets / "weights")})


def restored(picture: Picture, settings: Settings) -> tuple[Picture, list[str]]:
    notes: list[str] = []
    step = step_for("face", take_inventory(settings))
    work = Work(settings, picture.size, note=notes.append)
    return provider_named(step.provider).process(picture, step, work), notes


def test_a_photographed_face_is_restored(faces: Settings) -> None:
    from skimage.data import astronaut

    photograph = Picture(np.ascontiguousarray(astronaut()))  # type: ignore[no-untyped-call]
    result, notes = restored(photograph, faces)
    assert notes[0].startswith("1 photographed faces restored")
    changed = np.asarray(np.abs(result.pixels.astype(int) - photograph.pixels).max(axis=2) > 8)
    rows, columns = np.nonzero(changed)
    assert 40 < rows.mean() < 220, "the face is in the upper part"
    assert 150 < columns.mean() < 300
    assert not changed[330:].any(), "the suit is unchanged"


@pytest.mark.parametrize("page", ["pepper_e01_p03.webp", "pepper_e01_p01.webp"])
def test_drawn_faces_are_not_changed(page: str, faces: Settings, assets: Path) -> None:
    picture = decode((assets / "pages" / page).read_bytes(), faces).picture
    result, notes = restored(picture, faces)
    assert np.array_equal(result.pixels, picture.pixels)
    assert notes[0] == "no faces found" or "0 photographed faces restored" in notes[0]
