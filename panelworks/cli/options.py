"""Options of commands. Those of pages and books are generated from their models, whose descriptions are the help
texts."""

import inspect
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import annotated_types
import typer
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from typer.models import OptionInfo

from panelworks.cli.variants import parse_variant, parse_watermark
from panelworks.domain.options import Matting, Region
from panelworks.errors import Misconfigured
from panelworks.page.rules import read_rules
from panelworks.settings import Scale

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object a line on standard output.")]
SCALE_METAVAR: Final = "1..4|auto"
Command = Callable[..., None]
_RULES_HELP: Final = (
    "YAML file with the treatment of pages by type, size and origin. Default: PANELWORKS_RULES."
)
_MATTING_ERROR: Final = (
    "Matting thresholds have the form 240,10,10: two opacities of 0 to 270, and up to 100 pixels."
)


def with_options(
    model: type[BaseModel], without: Collection[str] = (), name: str = "options"
) -> Callable[[Command], Command]:
    """Decorate a command with one option for each field of `model`. It receives a `model` in its parameter `name`.

    Fields without a value keep their defaults. Fields in `without` have no option.
    """
    fields = {key: field for key, field in model.model_fields.items() if key not in without}

    def decorate(command: Command) -> Command:
        own = inspect.signature(command, eval_str=True).parameters

        def run(**given: Any) -> None:
            chosen = {key: _parse_value(key, given.pop(key)) for key in fields}
            command(**given, **{name: _validate(model, {k: v for k, v in chosen.items() if v is not None})})

        generated = [_make_parameter(key, field) for key, field in fields.items()]
        before = [one for one in own.values() if one.default is inspect.Parameter.empty and one.name != name]
        after = [one for one in own.values() if one.default is not inspect.Parameter.empty]
        parameters = [
            one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*before, *generated, *after)
        ]
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # typer reads it
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return decorate


def _make_parameter(key: str, field: FieldInfo) -> inspect.Parameter:
    """Make the parameter from which typer generates an option."""
    flag = f"--{key.replace('_', '-')}"
    limits: dict[str, Any] = {}
    for one in field.metadata:
        if isinstance(one, annotated_types.Ge):
            limits["min"] = one.ge
        if isinstance(one, annotated_types.Le):
            limits["max"] = one.le
    kind: Any = field.annotation
    default = field.default
    option: OptionInfo
    if kind is bool:
        option = typer.Option(flag, help=field.description)
    elif key == "scale":
        kind, option = str | None, typer.Option(flag, metavar=SCALE_METAVAR, help=field.description)
    elif key == "matting":
        kind, option = str | None, typer.Option(flag, metavar="F,B,E", help=field.description)
    elif key == "rules":
        kind, option = Path | None, typer.Option(flag, metavar="FILE", help=_RULES_HELP)
    elif key == "variants":
        kind, default = list[str] | None, None
        help_text = f"{field.description} May be given several times."
        option = typer.Option("--variant", metavar="NAME=VALUE,...", help=help_text)
    elif key == "watermark":
        kind, option = str | None, typer.Option(flag, metavar="FILE|NAME=VALUE,...", help=field.description)
    elif key == "inpaint":
        help_text = f"{field.description} May be given several times."
        kind, default = list[str] | None, None
        option = typer.Option(flag, metavar="X,Y,W,H", help=help_text)
    else:
        option = typer.Option(flag, help=field.description, **limits)
    return inspect.Parameter(
        key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
    )


def parse_scale(text: str | None) -> Scale | None:
    """Parse the value of `--scale`.

    Raises:
        Misconfigured: `bad_option`.
    """
    try:
        return TypeAdapter(Scale).validate_python(text) if text is not None else None
    except ValidationError as error:
        raise Misconfigured(
            "bad_option", f"--scale: {error.errors()[0]['msg'].removeprefix('Value error, ')}"
        ) from error


def _parse_value(key: str, given: Any) -> Any:
    """Convert a command line value for the model."""
    if key == "matting" and given is not None:
        return _parse_matting(given)
    if key == "rules" and given is not None:
        return read_rules(given)
    if key == "variants" and given is not None:
        return tuple(parse_variant(one) for one in given)
    if key == "watermark" and given is not None:
        return parse_watermark(given)
    if key == "inpaint" and given is not None:
        return tuple(_parse_region(one) for one in given)
    return given


def _validate(model: type[BaseModel], given: dict[str, Any]) -> BaseModel:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        _raise_option_error(error)


def _raise_option_error(error: ValidationError) -> NoReturn:
    first = error.errors()[0]
    option = "--" + str(first["loc"][0]).replace("_", "-") if first["loc"] else "The options"
    raise Misconfigured("bad_option", f"{option}: {first['msg'].removeprefix('Value error, ')}") from error


def _parse_region(text: str) -> Region:
    """Parse a rectangle `X,Y,W,H`."""
    left, top, width, height = _parse_numbers(text, 4, "bad_region", "A rectangle has the form 120,80,40,30.")
    try:
        return Region(left=left, top=top, width=width, height=height)
    except ValidationError as error:
        raise Misconfigured(
            "bad_region", "A rectangle must lie inside the page and must not be empty."
        ) from error


def _parse_matting(text: str) -> Matting:
    """Parse the thresholds `F,B,E`."""
    foreground, background, erode = _parse_numbers(text, 3, "bad_matting", _MATTING_ERROR)
    try:
        return Matting(foreground=foreground, background=background, erode=erode)
    except ValidationError as error:
        raise Misconfigured("bad_matting", _MATTING_ERROR) from error


def _parse_numbers(text: str, count: int, code: str, message: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise Misconfigured(code, message)
    return numbers
