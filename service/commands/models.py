"""Commands for the networks."""

from typing import Annotated

import typer

from service.commands.options import Json

app = typer.Typer(
    help="The networks: which there are, fetching their weights, checking them.",
    no_args_is_help=True,
)


@app.command("list", epilog="Example: panelworks models list --json")
def list_models(json: Json = False) -> None:
    """List the known networks: installed or not, scale, size, licence, use."""
    from service.weights import list_all

    list_all(json=json)


@app.command("fetch", epilog="Example: panelworks models fetch realesr-animevideov3")
def fetch_model(name: Annotated[str, typer.Argument(help="A name of 'panelworks models list'.")]) -> None:
    """Download the weights of a network, resumed and hash-checked."""
    from service.weights import fetch

    print("\n".join(fetch(name)))


@app.command("verify", epilog="Example: panelworks models verify")
def verify_models() -> None:
    """Check the hash of every weight file on this machine; exit code 1 when one is wrong."""
    from service.weights import verify

    raise typer.Exit(verify())
