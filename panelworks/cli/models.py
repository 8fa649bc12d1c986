"""`panelworks models` and `panelworks presets`: the known networks and presets; downloading and verifying weights."""

from typing import Annotated

import typer

from panelworks.cli.options import Json
from panelworks.cli.output import print_json
from panelworks.domain.cards import ACTIONS, CARDS
from panelworks.errors import Misconfigured
from panelworks.models.registry import registered_card
from panelworks.models.weights import download_weights, file_digest, installed_path, record_digest
from panelworks.page.presets import presets_of
from panelworks.settings import get_settings

app = typer.Typer(
    help="List networks, download their weights, verify them.",
    no_args_is_help=True,
)


@app.command("list", epilog="Example: panelworks models list --json")
def list_models(json: Json = False) -> None:
    """List the known networks: whether they are installed, scale, size, licence, purpose."""
    list_all(json=json)


@app.command("fetch", epilog="Example: panelworks models fetch realesr-animevideov3")
def fetch_model(name: Annotated[str, typer.Argument(help="A name of 'panelworks models list'.")]) -> None:
    """Download the weights of a network. Downloads are resumed and hash-checked."""
    print("\n".join(fetch_weights(name)))


@app.command("verify", epilog="Example: panelworks models verify")
def verify_models() -> None:
    """Verify the hash of every weight file on this machine. Exit code 1 if one is wrong."""
    raise typer.Exit(verify_weights())


def list_all(*, json: bool) -> None:
    """Print every known network."""
    settings = get_settings()
    for card in CARDS.values():
        path = installed_path(card, settings)
        if json:
            content = card.model_dump(mode="json", exclude={"path"})
            print_json({**content, "installed": str(path) if path else None})
        else:
            state = "installed" if path else "missing"
            scale = f"{card.scale}x" if card.scale else "  "
            actions = ", ".join(action for action in ACTIONS if action in card.actions) or card.architecture
            print(
                f"{card.name:<27} {scale}  {card.bytes / 1e6:7.1f} MB  {state:<9}  {actions:<16}"
                f"  {card.licence.partition(' without')[0]:<12}  {card.purpose}"
            )


def fetch_weights(name: str) -> list[str]:
    """Download the weights of a network and of the models that it uses, if missing. Return their paths.

    Raises:
        Misconfigured: `unknown_model`; `weights_tampered`.
        Transient: `weights_unavailable`.
    """
    card = registered_card(name)
    if card is None:
        raise Misconfigured("unknown_model", f"There is no model '{name}'; known are {', '.join(CARDS)}.")
    needed = [card, *(CARDS[part] for part in (*card.parts, *([card.partner] if card.partner else [])))]
    return [str(download_weights(one, get_settings())) for one in needed]


def verify_weights() -> int:
    """Verify every file with the name of a known network. Return the exit code."""
    settings = get_settings()
    wrong = 0
    for card in CARDS.values():
        for path in [card.path] if card.path else settings.weight_files(card.file):
            if path.is_file():
                good = file_digest(path) == (card.sha256 or record_digest(card, settings))
                wrong += not good
                print(f"{path}: {'ok' if good else 'WRONG HASH: delete it and fetch_weights it again'}")
    return 1 if wrong else 0


def presets(json: Json = False) -> None:
    """List the presets and their variants, with those of PANELWORKS_PRESETS."""
    for name, specs in presets_of(get_settings()).items():
        if json:
            print_json({"name": name, "variants": [spec.model_dump() for spec in specs]})
        else:
            variants = ", ".join(
                f"{s.name} {s.width or '*'}x{s.height or '*'}{'' if s.fit == 'inside' else f' {s.fit}'} {s.format}"
                f" q{s.quality}"
                for s in specs
            )
            print(f"{name:<18} {variants}")
