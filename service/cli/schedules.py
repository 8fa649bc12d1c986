"""Commands for schedules."""

from typing import Annotated

import typer

from panelworks.cli.options import Json
from panelworks.errors import Misconfigured
from service.prefect_server import reach_server

app = typer.Typer(
    help="Schedules of the backfill, as the Prefect UI shows them.",
    no_args_is_help=True,
)


@app.command(
    "backfill",
    epilog='Example: panelworks schedule backfill --archive s3://studio/archive --out s3://studio/enhanced --cron "0 22 * * *"'
    " --until 06:00; panelworks schedule backfill --list",
)
def schedule_backfill(
    archive: Annotated[
        str | None, typer.Option(help="Folder or s3://bucket/prefix with books, as the workers see it.")
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="Folder or s3://bucket/prefix for the finished CBZ files.")
    ] = None,
    cron: Annotated[
        str | None, typer.Option(help="When it starts: minute, hour, day, month, weekday.")
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(metavar="HH:MM", help="Start no further book after this time of day of the workers."),
    ] = None,
    timezone: Annotated[
        str | None, typer.Option(help="Time zone of --cron, such as Europe/Berlin; else as before, or UTC.")
    ] = None,
    name: Annotated[
        str, typer.Option(help="Name of the schedule; the backfill may have several.")
    ] = "nightly",
    list_all: Annotated[bool, typer.Option("--list", help="List the schedules and change nothing.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the schedule.")] = False,
    json: Json = False,
) -> None:
    """Set, list or remove a schedule of the backfill. 'panelworks provision' and 'panelworks up' keep it."""
    from panelworks.cli.backfill import parse_window

    given = {"--archive": archive, "--out": out, "--cron": cron, "--until": until, "--timezone": timezone}
    _refuse_mixture([key for key, value in given.items() if value is not None], list_all, remove)
    if not (list_all or remove) and not (archive and out and cron):
        missing = [key for key in ("--archive", "--out", "--cron") if not given[key]]
        raise Misconfigured("missing_option", f"A schedule needs {' and '.join(missing)}.")
    if until is not None:
        parse_window(until)
    reach_server()
    from service.scheduling import absolute, list_schedules, remove_schedule, set_schedule

    if remove:
        remove_schedule(name)
        print(f"The schedule '{name}' is removed.")
        return
    if archive and out and cron:
        parameters = {"archive": absolute(archive), "out": absolute(out)}
        set_schedule(name, cron, timezone, {**parameters, **({"until": until} if until else {})})
    list_schedules(json=json)


def _refuse_mixture(given: list[str], list_all: bool, remove: bool) -> None:
    if (list_all and remove) or (given and (list_all or remove)):
        raise Misconfigured(
            "bad_options", "--list and --remove go with no other option than --name and --json."
        )
