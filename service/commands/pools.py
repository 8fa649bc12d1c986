"""Commands for work pools."""

from typing import Annotated

import typer

from deployments.names import PoolKind
from service.commands.options import Json

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
    from service.poolside import create

    create(name, type, overwrite=overwrite)


@app.command("check", epilog="Example: panelworks pools check gpu-cloud")
def check_pool(
    name: Annotated[str, typer.Argument(help="Name of the pool.")],
    json: Json = False,
) -> None:
    """Would its infrastructure take what a worker starts? Asked of its own libraries; exit code 1 if not."""
    from service.poolside import check

    raise typer.Exit(check(name, json=json))


@app.command("template", epilog="Example: panelworks pools template ecs > template.json")
def print_template(
    type: Annotated[PoolKind, typer.Argument(help="What runs are started in.")],
) -> None:
    """Print the base job template of a type, for 'prefect work-pool create --base-job-template'."""
    from service.poolside import print_template

    print_template(type)
