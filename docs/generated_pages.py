"""Pages of the documentation that are generated from the code while the site is built.

MkDocs loads this file as a hook (mkdocs.yml). Each page is generated in memory: the settings from
`panelworks.settings.Settings`, the commands from the parser of the command line, the error codes and the metrics from the source.
"""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, get_args, get_origin

import annotated_types
import typer
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from panelworks import errors
from panelworks.cli.app import build_app
from panelworks.settings import Settings

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT: Final = Path(__file__).parents[1]
SETTINGS_CLASSES: Final = {"SourceLimits": "limits.py", "Settings": "settings.py"}
"""Classes whose fields are settings, with their files in `panelworks`."""
METRICS_FILE: Final = ROOT / "service" / "gateway" / "metrics.py"
SOURCE_DIRECTORIES: Final = (
    "panelworks",
    "blocks",
    "orchestration",
    "tasks",
    "flows",
    "service",
    "deployments",
)
_SIZE_UNITS: Final = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Add the generated pages. MkDocs calls this function by its name."""
    from mkdocs.structure.files import File

    for uri, make_page in PAGES.items():
        files.append(File.generated(config, uri, content=make_page()))
    return files


def make_settings_page() -> str:
    """The reference of every setting, in the groups of `Settings`."""
    descriptions, groups = _read_settings_source()
    lines = [
        "# Settings",
        "",
        "Settings are environment variables. They may also be lines of a file `.env` in the working directory; the",
        "environment overrides the file. `panelworks/settings.py` is the only place that reads them, and this page is",
        "generated from it. An empty variable counts as not set. A value that does not fit ends the command with a",
        "message that names the variable (`bad_setting`).",
        "",
        "Variables whose names begin with `S3_` and the other names without a prefix are also read with the prefix:",
        "`PANELWORKS_S3_BUCKET` means the same as `S3_BUCKET`.",
    ]
    for name, field in Settings.model_fields.items():
        if name in groups:
            lines += ["", f"## {groups[name]}"]
        variable = variable_of(name, field)
        meaning = descriptions[name].removeprefix(f"{variable}: ")
        values, default = _values_of(field), _default_of(name, field)
        lines += ["", f"`{variable}` {{ #{variable.lower()} }}", f":   {meaning[:1].upper()}{meaning[1:]}"]
        lines += ["", f"    Values: {values}." + (f" Default: {default}." if default else "")]
    lines += [
        "",
        "## Variables between processes",
        "",
        "These variables are not settings of an installation. One process of the pipeline sets them for another, such as a",
        "worker for its runs, or an operator sets them for one process.",
        "`deployments/warm/README.md`, `deployments/ecs/README.md` and `deployments/runpod/README.md` describe those of the three workers.",
        "",
        "| variable | used in |",
        "|---|---|",
    ]
    for variable, files in sorted(find_process_variables().items()):
        lines.append(f"| `{variable}` | {', '.join(f'`{file}`' for file in files)} |")
    return "\n".join(lines) + "\n"


def find_process_variables() -> dict[str, list[str]]:
    """Variables of Panelworks in the source that are not settings, with the files that name them."""
    settings = {variable_of(name, field) for name, field in Settings.model_fields.items()}
    found: dict[str, list[str]] = {}
    for path in _source_files():
        for name in sorted(set(re.findall(r'"(PANELWORKS_[A-Z_]+)"', path.read_text(encoding="utf-8")))):
            if name not in settings:
                found.setdefault(name, []).append(path.relative_to(ROOT).as_posix())
    return found


def variable_of(name: str, field: FieldInfo) -> str:
    """The environment variable of a setting: the public name where it has one."""
    alias = field.validation_alias
    choices = getattr(alias, "choices", None)
    return str(choices[0]) if choices else f"PANELWORKS_{name.upper()}"


def _read_settings_source() -> tuple[dict[str, str], dict[str, str]]:
    """The docstring of each setting, and the title of each group by its first setting.

    A title is the comment on the line before the group's first setting.
    """
    descriptions: dict[str, str] = {}
    groups: dict[str, str] = {}
    for class_name, file_name in SETTINGS_CLASSES.items():
        text = (ROOT / "panelworks" / file_name).read_text(encoding="utf-8")
        lines = text.splitlines()
        found = next(
            node
            for node in ast.parse(text).body
            if isinstance(node, ast.ClassDef) and node.name == class_name
        )
        for node, following in zip(found.body, found.body[1:], strict=False):
            if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
                continue
            if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                descriptions[node.target.id] = " ".join(str(following.value.value).split())
            above = lines[node.lineno - 2].strip()
            if above.startswith("# "):
                groups[node.target.id] = above.removeprefix("# ")
    return descriptions, groups


def _values_of(field: FieldInfo) -> str:
    """The values that a setting takes, in words."""
    kind = _first_type(field.annotation)
    if get_origin(kind) is Literal:
        return ", ".join(f"`{one}`" for one in get_args(kind))
    if get_origin(kind) is tuple:
        return "a list"
    names: dict[Any, str] = {
        bool: "`true`, `false`",
        int: "integer",
        float: "number",
        Path: "path",
        str: "text",
    }
    text = names.get(kind, "secret" if kind is SecretStr else "text")
    limits = [_limit_of(one) for one in field.metadata]
    return " ".join((text, *(limit for limit in limits if limit)))


def _first_type(annotation: Any) -> Any:
    """The type behind `X | None`."""
    kinds = [one for one in get_args(annotation) if one is not type(None)]
    return kinds[0] if type(None) in get_args(annotation) else annotation


def _limit_of(constraint: object) -> str:
    match constraint:
        case annotated_types.Ge(ge=low):
            return f"from {low}"
        case annotated_types.Gt(gt=low):
            return f"above {low}"
        case annotated_types.Le(le=high):
            return f"to {high}"
        case _:
            return ""


def _default_of(name: str, field: FieldInfo) -> str:
    """The default of a setting, as it is written in the environment."""
    if name == "cache_dir":
        return "`~/.cache/panelworks`"
    value = field.default
    if value is None or value is PydanticUndefined or value == ():
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{','.join(str(one) for one in value)}`"
    if name.endswith("bytes") and value % 1024 == 0:
        size, unit = next((size, unit) for size, unit in _SIZE_UNITS if value >= size and value % size == 0)
        amount = f"{value // size} {unit}"
        return f"`{value}` ({amount})"
    return f"`{value}`"


def make_commands_page() -> str:
    """The reference of the command line, from its parser."""
    lines = [
        "# Commands",
        "",
        "This page is generated from the parser that `panelworks --help` uses. Options of pages and books are generated",
        "from `EnhanceOptions` and `BookOptions`.",
        "",
        "Results go to standard output, as JSON Lines with `--json`. Logs go to standard error. The exit code is 0 when",
        "everything was delivered, 1 when some sources failed, and 2 when the command was used wrongly.",
        "",
        "The wheel has the commands of the library. A checkout and the image also have those of the pipeline.",
    ]
    from panelworks.cli.pipeline import COMMANDS

    commands: Any = typer.main.get_command(build_app())
    library = [name for name in commands.commands if name not in COMMANDS]
    pipeline = [name for name in commands.commands if name in COMMANDS]
    for title, names in (("Commands of the library", library), ("Commands of the pipeline", pipeline)):
        lines += ["", f"## {title}"]
        for name in names:
            lines += _describe_command(commands.commands[name], f"panelworks {name}")
    return "\n".join(lines) + "\n"


def _describe_command(command: Any, path: str) -> list[str]:
    """The section of a command, or of each command of a group."""
    if getattr(command, "commands", None):
        lines = []
        for name, one in command.commands.items():
            lines += _describe_command(one, f"{path} {name}")
        return lines
    context = command.context_class(command, info_name=path)
    lines = ["", f"### `{path}`", "", _inline_code(command.help or "")]
    lines += ["", "```", command.get_usage(context), "```"]
    records = [
        record for one in command.params if not one.hidden and (record := one.get_help_record(context))
    ]
    if records:
        lines += ["", "| option | meaning |", "|---|---|"]
        lines += [f"| `{_cell(names)}` | {_cell(_inline_code(meaning))} |" for names, meaning in records]
    if command.epilog:
        examples = command.epilog.removeprefix("Example: ").split("; ")
        lines += ["", "```sh", *examples, "```"]
    return lines


class ErrorCode(NamedTuple):
    """An error that the code raises: its code, its class, and the files that raise it."""

    code: str
    kind: str
    files: tuple[str, ...]


def make_errors_page() -> str:
    """The reference of the error codes: who acts on each, and where it comes from."""
    lines = [
        "# Errors",
        "",
        "Each error that reaches a user has a `code` for programs and a message of one plain sentence. Errors are split",
        "by who acts on them. The classes are public names of `panelworks`. The table is generated from the source.",
        "",
        "| class | meaning | `fault` |",
        "|---|---|---|",
    ]
    classes = _error_classes()
    for kind in classes.values():
        meaning = (kind.__doc__ or "").strip().splitlines()[0]
        lines.append(f"| `{kind.__name__}` | {_cell(meaning)} | `{kind.fault}` |")
    lines += [
        "",
        "`fault` is `input` when whoever sent the request must change it, `temporary` when the same request may succeed",
        "later, and `service` when whoever runs the service must act.",
        "",
        "## Codes",
        "",
        "| code | class | raised in |",
        "|---|---|---|",
    ]
    lines += [
        f"| `{one.code}` | `{one.kind}` | {', '.join(f'`{file}`' for file in one.files)} |"
        for one in find_error_codes()
    ]
    return "\n".join(lines) + "\n"


def find_error_codes() -> list[ErrorCode]:
    """Every literal code with which the source creates an error, in order of code and class."""
    found: dict[tuple[str, str], set[str]] = {}
    for path in _source_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (code := _code_of(node)) is not None:
                found.setdefault(code, set()).add(path.relative_to(ROOT).as_posix())
    return [ErrorCode(code, kind, tuple(sorted(files))) for (code, kind), files in sorted(found.items())]


def _code_of(node: ast.AST) -> tuple[str, str] | None:
    """Code and class of an error, where the node creates one with a literal code."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args):
        return None
    first = node.args[0]
    if node.func.id not in _error_classes() or not isinstance(first, ast.Constant):
        return None
    return str(first.value), node.func.id


def _error_classes() -> dict[str, type[errors.PanelworksError]]:
    found = {"PanelworksError": errors.PanelworksError}
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, errors.PanelworksError):
            found[name] = value
    return found


_METRIC_TYPES: Final = {
    "Counter": "counter",
    "CounterMetricFamily": "counter",
    "Gauge": "gauge",
    "GaugeMetricFamily": "gauge",
    "Histogram": "histogram",
}


def make_metrics_page() -> str:
    """The reference of the metrics that the gateway serves."""
    lines = [
        "# Metrics",
        "",
        "`GET /metrics` of the gateway serves these metrics in the format of Prometheus. The table is generated from",
        "`service/gateway/metrics.py`. The name of a counter has the suffix `_total` in the output. With `ENABLE_METRICS`",
        "the same metrics are served on `METRICS_PORT` without a key.",
        "",
        "| metric | type | labels | meaning |",
        "|---|---|---|---|",
    ]
    for node in ast.walk(ast.parse(METRICS_FILE.read_text(encoding="utf-8"))):
        if not (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _METRIC_TYPES
        ):
            continue
        name, meaning, *rest = (ast.literal_eval(one) for one in node.args)
        labels = (
            rest[0]
            if rest
            else next((ast.literal_eval(k.value) for k in node.keywords if k.arg == "labels"), ())
        )
        kind = _METRIC_TYPES[node.func.id]
        full = f"{name}_total" if kind == "counter" else name
        lines.append(f"| `{full}` | {kind} | {', '.join(f'`{one}`' for one in labels)} | {_cell(meaning)} |")
    return "\n".join(lines) + "\n"


def _source_files() -> Iterator[Path]:
    for directory in SOURCE_DIRECTORIES:
        yield from sorted((ROOT / directory).rglob("*.py"))


def _inline_code(text: str) -> str:
    """Mark options and file names with stars as code, so that Markdown shows them as they are."""
    return re.sub(r"(?<![`\w-])(--[a-z][a-z-]+)", r"`\1`", text).replace("*", r"\*")


def _cell(text: str) -> str:
    """Text for a cell of a Markdown table."""
    return text.replace("|", r"\|").replace("\n", " ")


PAGES: Final[dict[str, Callable[[], str]]] = {
    "reference/settings.md": make_settings_page,
    "reference/commands.md": make_commands_page,
    "reference/errors.md": make_errors_page,
    "reference/metrics.md": make_metrics_page,
}
"""The function that makes each generated page, by the page's path in the documentation."""
