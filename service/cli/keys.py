"""Commands for the keys of the gateway."""

from typing import Annotated

import typer

app = typer.Typer(
    help="API keys of the gateway.",
    no_args_is_help=True,
)


@app.command("new", epilog="Example: panelworks keys new reader")
def new_key(
    name: Annotated[str, typer.Argument(help="Whose key it is; jobs belong to this name.")],
    admin: Annotated[bool, typer.Option("--admin", help="The key sees the jobs of all keys.")] = False,
) -> None:
    """Make an API key: shown once; only its hash is configured."""
    from service.gateway.access import ADMIN, new_key

    key, digest = new_key()
    print(f"Give this key to {name}; it is not shown again:\n    {key}")
    role = f":{ADMIN}" if admin else ""
    print(f"Add this to PANELWORKS_API_KEYS, separated by commas:\n    {name}:{digest}{role}")
