"""Commands for API keys, work pools and schedules."""

import asyncio
from typing import Annotated

import typer

from deployments.names import PoolKind
from panelworks.cli.options import Json
from panelworks.cli.output import print_json
from panelworks.errors import Misconfigured
from service.prefect_server import check_server

keys = typer.Typer(
    help="API keys of the gateway.",
    no_args_is_help=True,
)


@keys.command("new", epilog="Example: panelworks keys new reader")
def new_key(
    name: Annotated[str, typer.Argument(help="Name of the key; jobs belong to it.")],
    admin: Annotated[bool, typer.Option("--admin", help="The key may read the jobs of all keys.")] = False,
) -> None:
    """Create an API key. It is shown once; only its hash is configured."""
    from service.gateway.access import ADMIN, new_key

    key, digest = new_key()
    print(f"Give this key to {name}; it is not shown again:\n    {key}")
    role = f":{ADMIN}" if admin else ""
    print(f"Add this to PANELWORKS_API_KEYS, separated by commas:\n    {name}:{digest}{role}")


pools = typer.Typer(
    help="Work pools: created from our templates, and checked before anything costs money.",
    no_args_is_help=True,
)


@pools.command("create", epilog="Example: panelworks pools create gpu-cloud --type kubernetes")
def create_pool(
    name: Annotated[str, typer.Argument(help="Name of the pool.")],
    type: Annotated[PoolKind, typer.Option(help="The infrastructure in which its workers start runs.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the template of an existing pool by ours.")
    ] = False,
) -> None:
    """Create a work pool with GPU settings, as a form in the Prefect UI."""
    check_server()
    from service.pools import create_pool as create

    made = asyncio.run(create(name, type, overwrite=overwrite))
    state = "ready" if made else "not changed, since it exists; --overwrite applies our template"
    print(f"The work pool '{name}' is {state}.")
    print(f"Fill its form in the Prefect UI, then: panelworks pools check {name}")
    print(f"Its worker: prefect worker start --pool {name} --type {type}")


@pools.command("check", epilog="Example: panelworks pools check gpu-cloud")
def check_pool(
    name: Annotated[str, typer.Argument(help="Name of the pool.")],
    json: Json = False,
) -> None:
    """Check what a worker of the pool would start with the libraries of its infrastructure; exit code 1 if it is invalid."""
    check_server()
    from service.pools import check_pool as check

    findings = asyncio.run(check(name))
    for found in findings:
        if json:
            print_json({"pool": name, "deployment": found.deployment, "problems": list(found.problems)})
            continue
        subject = found.deployment or f"the pool '{name}'"
        print(f"ok      {subject}" if not found.problems else f"TROUBLE {subject}")
        for problem in found.problems:
            print(f"        {problem}")
    raise typer.Exit(int(any(found.problems for found in findings)))


@pools.command("template", epilog="Example: panelworks pools template ecs --pool gpu-cloud > template.json")
def print_template(
    type: Annotated[PoolKind, typer.Argument(help="The infrastructure in which runs are started.")],
    pool: Annotated[
        str | None, typer.Option(help="Name of the pool; runs record it with their cost.")
    ] = None,
) -> None:
    """Print the base job template of a type, for 'prefect work-pool create --base-job-template'."""
    import json as json_module

    from deployments.pools import template

    print(json_module.dumps(template(type, pool), indent=2))


schedules = typer.Typer(
    help="Schedules of the backfill, as the Prefect UI shows them.",
    no_args_is_help=True,
)


@schedules.command(
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
        str | None,
        typer.Option(help="Time zone of --cron, such as Europe/Berlin; by default unchanged, or UTC."),
    ] = None,
    name: Annotated[
        str, typer.Option(help="Name of the schedule; the backfill may have several.")
    ] = "nightly",
    list_all: Annotated[bool, typer.Option("--list", help="List the schedules and change nothing.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the schedule.")] = False,
    json: Json = False,
) -> None:
    """Set, list or remove a schedule of the backfill. 'panelworks provision' and 'panelworks up' do not change it."""
    from panelworks.cli.backfill import parse_window

    given = {"--archive": archive, "--out": out, "--cron": cron, "--until": until, "--timezone": timezone}
    _reject_combined_options([key for key, value in given.items() if value is not None], list_all, remove)
    if not (list_all or remove) and not (archive and out and cron):
        missing = [key for key in ("--archive", "--out", "--cron") if not given[key]]
        raise Misconfigured("missing_option", f"A schedule needs {' and '.join(missing)}.")
    if until is not None:
        parse_window(until)
    check_server()
    from service.scheduling import absolute, list_schedules, remove_schedule, set_schedule

    if remove:
        remove_schedule(name)
        print(f"The schedule '{name}' is removed.")
        return
    if archive and out and cron:
        parameters = {"archive": absolute(archive), "out": absolute(out)}
        set_schedule(name, cron, timezone, {**parameters, **({"until": until} if until else {})})
    list_schedules(json=json)


def _reject_combined_options(given: list[str], list_all: bool, remove: bool) -> None:
    if (list_all and remove) or (given and (list_all or remove)):
        raise Misconfigured(
            "bad_options", "--list and --remove go with no other option than --name and --json."
        )
