"""`panelworks models`: the known networks, fetching and verifying their weights."""

from typing import Annotated

import typer

from panelworks.cli.options import Json
from panelworks.cli.output import print_json
from panelworks.domain.cards import ACTIONS, CARDS
from panelworks.errors import Misconfigured
from panelworks.models.registry import registered_card
from panelworks.models.weights import download_weights, file_digest, installed_path, record_digest
from panelworks.settings import get_settings

app = typer.Typer(
    help="The networks: which there are, fetching their weights, checking them.",
    no_args_is_help=True,
)


@app.command("list", epilog="Example: panelworks models list --json")
def list_models(json: Json = False) -> None:
    """List the known networks: installed or not, scale, size, licence, use."""
    list_all(json=json)


@app.command("fetch", epilog="Example: panelworks models fetch realesr-animevideov3")
def fetch_model(name: Annotated[str, typer.Argument(help="A name of 'panelworks models list'.")]) -> None:
    """Download the weights of a network, resumed and hash-checked."""
    print("\n".join(fetch(name)))


@app.command("verify", epilog="Example: panelworks models verify")
def verify_models() -> None:
    """Check the hash of every weight file on this machine; exit code 1 when one is wrong."""
    raise typer.Exit(verify())


def list_all(*, json: bool) -> None:
    """Print every known network."""
    settings = get_settings()
    for card in CARDS.values():
        path = installed_path(card, settings)
        if json:
            content = card.model_dump(mode="json", exclude={"path"})
            print_json({**content, "installed": str(path) if path else None})
        else:
            state = "installed" if path else "not here"
            scale = f"{card.scale}x" if card.scale else "  "
            actions = ", ".join(action for action in ACTIONS if action in card.actions) or card.architecture
            print(
                f"{card.name:<27} {scale}  {card.bytes / 1e6:7.1f} MB  {state:<9}  {actions:<16}"
                f"  {card.licence.partition(' without')[0]:<12}  {card.purpose}"
            )


def fetch(name: str) -> list[str]:
    """Make sure that the weights are here, and those of the models they work with; returns their paths.

    Raises:
        Misconfigured: `unknown_model`; `weights_tampered`.
        Transient: `weights_unavailable`.
    """
    card = registered_card(name)
    if card is None:
        raise Misconfigured("unknown_model", f"There is no model '{name}'; known are {', '.join(CARDS)}.")
    needed = [card, *(CARDS[part] for part in (*card.parts, *([card.partner] if card.partner else [])))]
    return [str(download_weights(one, get_settings())) for one in needed]


def verify() -> int:
    """Check every file that bears the name of a known network; returns the exit code."""
    settings = get_settings()
    wrong = 0
    for card in CARDS.values():
        for path in [card.path] if card.path else settings.weight_files(card.file):
            if path.is_file():
                good = file_digest(path) == (card.sha256 or record_digest(card, settings))
                wrong += not good
                print(f"{path}: {'ok' if good else 'WRONG HASH: delete it and fetch it again'}")
    return 1 if wrong else 0
