"""The installed library: contents of the wheel, modules that an import loads, commands and features with missing packages."""

import json
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

import panelworks
from panelworks.errors import Misconfigured, as_known_error
from tests.networks import random_rrdb
from tests.pages import write_page

ROOT = Path(__file__).parents[3]
MAX_BASE_DEPENDENCIES = 14
HEAVY = (
    "cv2",
    "fastapi",
    "httpx",
    "numpy",
    "openvino",
    "pandas",
    "PIL",
    "prefect",
    "pyarrow",
    "pydantic",
    "torch",
    "typer",
)
"""Packages that importing the library must not load."""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the wheel installs."""
    folder = tmp_path_factory.mktemp("wheel")
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(site: Path, *arguments: str, without: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run the installed command line outside of the checkout, as if the packages `without` were not installed."""
    program = (
        "class Without:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {without!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Without())\n"
        "from panelworks.cli.app import main\nmain()\n"
    )
    return run_program(site, program, *arguments)


def run_program(site: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    found = f"import sys\nsys.path.insert(0, {str(site)!r})\n"
    return subprocess.run(
        [sys.executable, "-c", found + program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=site,
    )


RUN_IN_TURN = """
import contextlib, io, json
from panelworks.cli.app import main
ends = []
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["panelworks", *arguments]
    with contextlib.redirect_stderr(io.StringIO()) as stderr:
        try:
            main()
        except SystemExit as end:
            ends.append([end.code, stderr.getvalue()])
print(json.dumps(ends))
"""
"""Program that runs commands one after the other; prints the exit code and standard error of each as JSON."""


def test_the_wheel_contains_only_the_library(installed: Path) -> None:
    names = {path.name for path in installed.iterdir()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"panelworks"}
    for needed in (
        "py.typed",
        "models/bundled/panelworks-2x.safetensors",
        "books/report.html",
        "cli/demo.html",
    ):
        assert (installed / "panelworks" / needed).is_file()
    assert len(list((installed / "panelworks" / "cli" / "pages").glob("*.png"))) == 2


def test_the_base_dependencies_stay_few() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert len(project["dependencies"]) <= MAX_BASE_DEPENDENCIES
    assert {
        "torch",
        "books",
        "s3",
        "redis",
        "face",
        "rembg",
        "aura",
        "upstream",
        "iqa",
        "pipeline",
        "all",
    } <= set(project["optional-dependencies"])


def test_importing_the_library_loads_nothing_heavy() -> None:
    program = "import json, sys, panelworks; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert not {name.partition(".")[0] for name in json.loads(done.stdout)} & set(HEAVY)


def test_public_names_are_found_when_they_are_used() -> None:
    assert set(dir(panelworks)) == set(panelworks.__all__)
    for name in panelworks.__all__:
        assert getattr(panelworks, name) is not None
    with pytest.raises(AttributeError, match="nothing_of_this_name"):
        panelworks.nothing_of_this_name  # noqa: B018 - the access is the test


def test_outside_of_a_checkout_help_lists_available_commands(installed: Path) -> None:
    shown = run(installed, "--help").stdout
    for command in ("enhance", "frames", "score", "backfill", "report", "models", "presets", "demo"):
        assert command in shown
    for command in ("gateway", "provision", "schedule"):
        assert command not in shown


def test_the_pipelines_commands_explain_where_to_get_it(installed: Path) -> None:
    """They run in one process, because most of the time of each is the import of the library."""
    commands = [
        ("up", "--port", "4300"),
        ("worker",),
        ("schedule", "backfill"),
        ("enhance", "x.png", "--flow"),
    ]
    done = run_program(installed, RUN_IN_TURN, json.dumps(commands))
    assert done.returncode == 0, done.stderr
    ends = json.loads(done.stdout)
    assert len(ends) == len(commands)
    for code, stderr in ends:
        assert code == 2
        assert "panelworks: " in stderr
        assert "needs the pipeline" in stderr
        assert "Traceback" not in stderr


@pytest.mark.parametrize(
    ("package", "extra", "arguments"),
    [
        ("natsort", "books", ("backfill", "{shelf}", "--out", "{out}")),
        ("pandas", "books", ("report", "--out", "{out}/report.html")),
        ("torch", "torch", ("enhance", "{shelf}/book/page.png", "--model", "{pth}", "--out", "{out}")),
        ("boto3", "s3", ("enhance", "s3://bucket/page.png", "--out", "{out}")),
    ],
)
def test_the_error_names_a_missing_extra(
    installed: Path, tmp_path: Path, package: str, extra: str, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "shelf" / "book").mkdir(parents=True)
    write_page(tmp_path / "shelf" / "book" / "page.png", 32, 32)
    places = {"shelf": tmp_path / "shelf", "out": tmp_path / "out", "pth": random_rrdb(tmp_path / "n.pth")}
    done = run(installed, *(one.format(**places) for one in arguments), without=(package,))
    assert done.returncode != 0
    assert f"pip install 'panelworks[{extra}]'" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_only_optional_modules_have_an_extra() -> None:
    known = as_known_error(ModuleNotFoundError(name="torch.nn"))
    assert isinstance(known, Misconfigured)
    assert known.code == "missing_extra"
    assert "panelworks[pipeline]" in str(as_known_error(ModuleNotFoundError(name="prefect.client")))
    assert as_known_error(ModuleNotFoundError(name="panelworks.nothing")) is None
    assert as_known_error(ValueError()) is None
