"""Options of commands that are generated from models."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import typer
import yaml
from hypothesis import given, settings
from typer.testing import CliRunner

from panelworks.cli.options import with_options
from panelworks.domain.books import BookOptions
from panelworks.domain.options import EnhanceOptions
from panelworks.errors import Misconfigured
from tests.requests import options


def parsed(arguments: Sequence[str], without: Sequence[str] = ()) -> EnhanceOptions:
    """The options that a command receives."""
    received: list[Any] = []
    app = typer.Typer()

    @app.command()
    @with_options(EnhanceOptions, without=without)
    def command(source: str, options: EnhanceOptions, force: bool = False) -> None:
        """Help of the command."""
        received.append(options)

    done = CliRunner().invoke(app, ["page.png", *arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    options: EnhanceOptions = received[0]
    return options


def arguments_of(options: EnhanceOptions, folder: Path) -> list[str]:
    """The command line arguments for these options; rules are written to a file in `folder`."""
    arguments: list[str] = []
    for name in options.model_dump(exclude_defaults=True):
        value = options.model_dump()[name]
        flag = "--" + name.replace("_", "-")
        if name == "inpaint":
            arguments += [f"{flag}={','.join(str(side) for side in region.values())}" for region in value]
        elif name == "rules":
            path = folder / "rules.yaml"
            path.write_text(yaml.safe_dump({"rules": options.model_dump(mode="json")["rules"]}))
            arguments.append(f"{flag}={path}")
        elif name == "matting":
            arguments.append(f"{flag}={','.join(str(number) for number in value.values())}")
        elif value is True:
            arguments.append(flag)
        else:
            arguments.append(f"{flag}={value}")
    return arguments


@settings(max_examples=25)  # each builds a command
@given(options())
def test_options_survive_the_command_line(options: EnhanceOptions) -> None:
    with TemporaryDirectory() as folder:
        assert parsed(arguments_of(options, Path(folder))) == options


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), {}),
        (("--scale", "3", "--model", "lanczos", "--force"), {"scale": 3, "model": "lanczos"}),
        (("--fix-artifacts", "off", "--descreen", "on"), {"fix_artifacts": "off", "descreen": "on"}),
        (
            ("--fix-artifacts", "regions", "--detect", "inpaint"),
            {"fix_artifacts": "regions", "detect": "inpaint"},
        ),
        (("--face", "--remove-background"), {"face": True, "remove_background": True}),
        (("--denoise", "0.5", "--colour", "0"), {"denoise": 0.5, "colour": 0}),
        (("--quality-threshold", "0.3"), {"quality_threshold": 0.3}),
        (("--matting", "240,10,5"), {"matting": {"foreground": 240, "background": 10, "erode": 5}}),
        (
            ("--inpaint", "1,2,3,4", "--inpaint", "5,6,7,8"),
            {
                "inpaint": [
                    {"left": 1, "top": 2, "width": 3, "height": 4},
                    {"left": 5, "top": 6, "width": 7, "height": 8},
                ]
            },
        ),
    ],
)
def test_arguments_become_fields(arguments: tuple[str, ...], expected: dict[str, Any]) -> None:
    assert parsed(arguments) == EnhanceOptions.model_validate(expected)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--inpaint", "1,2,3"), "bad_region"),
        (("--inpaint", "1,2,0,4"), "bad_region"),
        (("--matting", "a,b,c"), "bad_matting"),
        (("--matting", "300,10,10"), "bad_matting"),
    ],
)
def test_invalid_values_are_refused(arguments: tuple[str, ...], code: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        parsed(arguments)
    assert refused.value.code == code


def test_every_field_has_an_option_with_its_description() -> None:
    app = typer.Typer()

    @app.command()
    @with_options(BookOptions, without=("page",))
    def command(options: BookOptions) -> None:
        """Help of the command."""

    shown = " ".join(CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output.split())
    for name, field in BookOptions.model_fields.items():
        if name != "page":
            assert f"--{name.replace('_', '-')}" in shown
            assert str(field.description)[:30] in shown


def test_the_error_names_an_unknown_encoding() -> None:
    app = typer.Typer()

    @app.command()
    @with_options(BookOptions, without=("page",))
    def command(options: BookOptions) -> None:
        """Help of the command."""

    done = CliRunner().invoke(app, ["--name-encoding", "nothing"])
    assert isinstance(done.exception, Misconfigured)
    assert "--name-encoding" in done.exception.message
