"""One image through the whole chain, and through single steps, from the command line."""

import json
from pathlib import Path

import pytest

from panelworks.cli.app import main
from tests.pages import write_page
from tests.panelworks.conftest import face_weights
from tests.panelworks.page.test_chain import weights

__all__ = ["face_weights", "weights"]  # fixtures

STEPS = {
    "inpaint": ["--inpaint", "10,12,20,8"],
    "fix_artifacts": ["--fix-artifacts", "on"],
    "descreen": ["--descreen", "on"],
    "denoise": ["--denoise", "0.8"],
    "upscale": ["--model", "opencomic-2x"],
    "face": ["--face"],
    "colour": ["--colour", "0.6"],
    "rembg": ["--remove-background", "--matting", "240,10,4"],
}
ALONE = ("upscale", "rembg")
"""With a chosen network and with matting. The other steps are run alone in tests/panelworks/page/test_chain.py."""


def enhance(capsys: pytest.CaptureFixture[str], page: Path, *arguments: str) -> dict[str, object]:
    with pytest.raises(SystemExit) as ended:
        main(["enhance", str(page), "--out", str(page.parent / "out"), "--direct", "--json", *arguments])
    assert ended.value.code == 0
    result: dict[str, object] = json.loads(capsys.readouterr().out)
    return result


@pytest.mark.usefixtures("weights")
@pytest.mark.parametrize("step", [*ALONE, "all"])
def test_from_the_command_line(step: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = write_page(tmp_path / "page.png", 240, 200)
    arguments = [word for words in STEPS.values() for word in words] if step == "all" else STEPS[step]
    result = enhance(capsys, page, *arguments)
    assert (result["status"], result["route"]) == ("success", "upscaled"), result
    taken = [one["action"] for one in result["steps"]]  # type: ignore[attr-defined]
    if result["fallback"] is None:
        wanted = [*[*STEPS][:5], "resize", *[*STEPS][5:]] if step == "all" else [step]
        assert [action for action in taken if step == "all" or action == step] == wanted
    else:
        assert step == "all", result["fallback"]
