"""Commands for work pools."""

import asyncio
from typing import Annotated

import typer

from deployments.names import PoolKind
from panelworks.cli.options import Json
from panelworks.cli.output import print_json
from service.prefect_server import reach_server

app = typer.Typer(
    help="Work pools: made from our templates, and checked before anything costs money.",
    no_args_is_help=True,
)


@app.command("create", epilog="Example: panelworks pools create gpu-cloud --type kubernetes")
def create_pool(
    name: Annotated[str, typer.Argument(help="Name of the pool.")],
    type: Annotated[PoolKind, typer.Option(help="What its workers start runs in.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Give a pool that is there our template again.")
    ] = False,
) -> None:
    """Create a work pool with GPU settings, as a form in the Prefect UI."""
    reach_server()
    from service.pools import create_pool as create

    made = asyncio.run(create(name, type, overwrite=overwrite))
    state = "ready" if made else "there already; --overwrite gives it our template"
    print(f"The work pool '{name}' is {state}.")
    print(f"Fill its form in the Prefect UI, then: panelworks pools check {name}")
    print(f"Its worker: prefect worker start --pool {name} --type {type}")


@app.command("check", epilog="Example: panelworks pools check gpu-cloud")
def check_pool(
    name: Annotated[str, typer.Argument(help="Name of the pool.")],
    json: Json = False,
) -> None:
    """Would its infrastructure take what a worker starts? Asked of its own libraries; exit code 1 if not."""
    reach_server()
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


@app.command("template", epilog="Example: panelworks pools template ecs --pool gpu-cloud > template.json")
def print_template(
    type: Annotated[PoolKind, typer.Argument(help="What runs are started in.")],
    pool: Annotated[
        str | None, typer.Option(help="Name of the pool that it is for; its runs record it with their cost.")
    ] = None,
) -> None:
    """Print the base job template of a type, for 'prefect work-pool create --base-job-template'."""
    import json as json_module

    from deployments.pools import template

    print(json_module.dumps(template(type, pool), indent=2))
