"""Detectors of third parties: how they are found, and what happens if they fail."""

from pathlib import Path

import numpy as np
import pytest

from panelworks.domain.regions import MAX_ARTIFACT_REGIONS
from panelworks.errors import Misconfigured, PanelworksError, Rejected, ResourceExhausted, UnknownName
from panelworks.pictures import Picture
from panelworks.settings import Settings
from panelworks.steps import take_inventory
from panelworks.steps.detectors import choose_detectors, identify_detectors, run_detectors
from tests.detectors import install_detector

TEMPLATE = """
from panelworks.domain.regions import ArtifactRegion
from panelworks.errors import Rejected

class Stand_in:
    version = "2"

    def detect(self, picture, settings):
        {body}
"""
REGION = 'ArtifactRegion(kind="hand", left={left}, top=0, width=50, height=5, strength={strength})'


def page() -> Picture:
    pixels = np.full((60, 80, 3), 250, dtype=np.uint8)
    pixels[10:20, 30:45] = (255, 0, 255)
    return Picture(pixels)


def test_an_installed_detector_is_found_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    assert choose_detectors(None) == ()
    install_detector(tmp_path, monkeypatch)
    assert choose_detectors(None) == ("squares",)
    identities = identify_detectors(("squares",))
    assert identities == ("squares 1.0",)
    (found,) = run_detectors(identities, page(), settings)
    assert (found.left, found.top, found.width, found.height) == (30, 10, 15, 10)
    assert (found.kind, found.detector, found.title) == ("extra_finger", "squares", "extra finger")


def test_regions_are_cut_at_the_borders_and_limited_in_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    body = f"return [{REGION.format(left='i', strength='i / 200')} for i in range(200)]"
    install_detector(tmp_path, monkeypatch, TEMPLATE.format(body=body))
    found = run_detectors(("squares 2",), page(), settings)
    assert len(found) == MAX_ARTIFACT_REGIONS
    assert found[0].strength == pytest.approx(79 / 200)  # those that begin outside of the page are left out
    assert all(one.left + one.width <= 80 for one in found)


@pytest.mark.parametrize(
    ("code", "error", "reason"),
    [
        (TEMPLATE.format(body="raise ValueError"), Misconfigured, r"'squares' failed \(ValueError\)"),
        (TEMPLATE.format(body="return [{'kind': 'hand'}]"), Misconfigured, "is not a region: Field required"),
        (TEMPLATE.format(body="return 3"), Misconfigured, r"failed \(TypeError\)"),
        (TEMPLATE.format(body="raise MemoryError"), ResourceExhausted, "too little memory for the detector"),
        (TEMPLATE.format(body="raise Rejected('bad', 'No.')"), Rejected, "No"),
        ("class Other:\n    version = '1'\n", Misconfigured, "has no method `detect`"),
        ("class Other:\n    pass\n", Misconfigured, r"cannot be loaded \(AttributeError\)"),
        ("import nothing_of_this_name\n", Misconfigured, r"cannot be loaded \(ModuleNotFoundError\)"),
    ],
)
def test_a_detector_that_fails_is_named(
    code: str,
    error: type[PanelworksError],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
) -> None:
    install_detector(tmp_path, monkeypatch, code)
    with pytest.raises(error, match=reason):
        run_detectors(("squares 2",), page(), settings)


@pytest.mark.parametrize("text", ["detect: other", "detect: [squares, other]"])
def test_the_file_of_providers_chooses_among_detectors(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    install_detector(tmp_path, monkeypatch)
    install_detector(tmp_path, monkeypatch, name="other")
    path = tmp_path / "providers.yaml"
    path.write_text(f"{text}\nupscale: lanczos\n")
    inventory = take_inventory(settings.model_copy(update={"providers": path}))
    assert inventory.choices["upscale"].model == "lanczos"
    assert set(choose_detectors(inventory.detectors)) == {"other"} | ({"squares"} if "[" in text else set())


def test_a_detector_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_detector(tmp_path, monkeypatch)
    with pytest.raises(UnknownName, match="no detector 'hands'; registered are squares"):
        choose_detectors(("hands",))


def test_bad_names_in_the_file_are_an_error(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "providers.yaml"
    path.write_text("detect: {a: 1}\n")
    with pytest.raises(Misconfigured, match=r"providers\.yaml"):
        take_inventory(settings.model_copy(update={"providers": path}))
