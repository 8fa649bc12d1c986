"""Who may read what an installation keeps: its owner; pages are delivered for everybody."""

import sys
from pathlib import Path

import pytest

from panelworks.page.engine import Engine
from panelworks.settings import Settings
from panelworks.storage.local import LocalFolder
from service.prefect_server import ServerAccess
from service.stack.checkup import findings
from service.stack.parts import Part
from service.stack.plan import StackPlan


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def run(logs: Path) -> Path:
    part = Part("part", [sys.executable, "-c", "print('said')"], {}, logs)
    part.start()
    assert part._process is not None
    part._process.wait()
    return part.log


def test_logs(tmp_path: Path) -> None:
    log = run(tmp_path / "cache" / "logs")
    assert (mode(log.parent), mode(log)) == (0o700, 0o600)
    assert log.read_text() == "said\n"


def test_logs_of_an_earlier_release_are_closed(tmp_path: Path) -> None:
    old = tmp_path / "part.log"
    old.write_text("before\n")
    old.chmod(0o644)
    assert mode(run(tmp_path)) == 0o600
    assert old.read_text() == "before\nsaid\n"


def test_the_cache_folder_is_closed_whoever_makes_it(tmp_path: Path, settings: Settings) -> None:
    for name in ("engine", "access"):
        own = settings.model_copy(update={"cache_dir": tmp_path / "deep" / name})
        if name == "engine":
            Engine(own)
        else:
            ServerAccess(own.cache_dir).create()
        assert mode(own.cache_dir) == 0o700


def test_delivered_pages_are_readable(tmp_path: Path) -> None:
    LocalFolder(tmp_path / "out").write("upscaled/page.png", b"page", "image/png")
    assert mode(tmp_path / "out" / "upscaled" / "page.png") == 0o644


@pytest.mark.parametrize(("bits", "warned"), [(0o755, True), (0o701, True), (0o750, False), (0o700, False)])
def test_the_checkup_names_an_open_cache_folder(
    tmp_path: Path, settings: Settings, bits: int, warned: bool
) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(bits)
    plan = StackPlan("127.0.0.1", 1, 2, 1, None, None)
    found = findings(plan, settings.model_copy(update={"cache_dir": folder}), {})
    privacy = next(finding for finding in found if finding.subject == "privacy")
    assert (privacy.trouble is not None) is warned
    assert not privacy.fatal or not warned
    assert mode(folder) == bits
