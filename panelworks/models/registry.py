"""The registry: finding the card of a network by its names, or the card of a weight file."""

import hashlib
from pathlib import Path
from typing import Final

from panelworks.domain.cards import ACTIONS, CARDS, ModelCard
from panelworks.errors import UnknownName
from panelworks.models.weight_files import is_pair, pair_bytes, pair_digest
from panelworks.settings import WEIGHT_SUFFIXES, Settings

_ANY_ACTION: Final = frozenset({"upscale", "enhance", "fix_artifacts", "descreen", "denoise", "inpaint"})
_ALIASES: Final[dict[str, str]] = {
    "realesrgan": "realesrgan_x4plus",
    "realesrgan-x4": "realesrgan_x4plus",
    "realesrgan-x2": "realesrgan_x2plus",
    "realesrgan-anime": "realesrgan_x4plus_anime_6b",
    "realesrgan-anime-6b": "realesrgan_x4plus_anime_6b",
    "realesrgan-x4plus-anime": "realesrgan_x4plus_anime_6b",
    "realesr-animevideo": "realesr-animevideov3",
    "realesr-animevideo-v3": "realesr-animevideov3",
    "realesr-animevideov3-x4": "realesr-animevideov3",
    "realesr-general": "realesr-general-x4v3",
    "realcugan": "realcugan-2x-conservative",
    "realcugan-2x": "realcugan-2x-conservative",
    "opencomic": "opencomic-2x",
    "aura": "aura-sr-v2",
    "aura-sr": "aura-sr-v2",
    "aurasr": "aura-sr-v2",
    "aurasr-v2": "aura-sr-v2",
    "fal/aurasr-v2": "aura-sr-v2",
    "gfpgan": "gfpgan-1.4",
    "gfpgan-v1.3": "gfpgan-1.3",
    "gfpgan-v1.4": "gfpgan-1.4",
}
"""Names of these models in other programs, normalized by `_spelling`."""


def _spelling(name: str) -> str:
    """Normalize the name of a model: case, `_` or `-`, the extension of its file."""
    stem, dot, extension = name.lower().rpartition(".")
    without = stem if dot and f".{extension}" in _EXTENSIONS else name.lower()
    return without.replace("_", "-").replace(" ", "-")


_EXTENSIONS: Final = WEIGHT_SUFFIXES | {".onnx"}
_BY_SPELLING: Final = {
    **{spelling: CARDS[name] for spelling, name in _ALIASES.items()},
    **{_spelling(card.file): card for card in CARDS.values() if card.architecture != "part"},
    **{_spelling(card.name): card for card in CARDS.values()},
}


def registered_card(model: str) -> ModelCard | None:
    """The card of a registered model, by its name, its file's name or an alias; None for any other name."""
    return _BY_SPELLING.get(_spelling(model))


def card_for(model: str, settings: Settings | None = None) -> ModelCard:
    """The card of a registered model, or of a weight file.

    A weight file is named by its path or, with `settings`, by its name in MODEL_PATH. A file is preferred to a registered
    model of the same spelling, unless the name is exactly that of the model.

    Raises:
        UnknownName: `unknown_model`, neither a registered name nor a weight file.
    """
    return CARDS.get(model.lower()) or find_own_file(model, settings) or _registered(model)


def find_own_file(model: str, settings: Settings | None = None) -> ModelCard | None:
    """The card of the weight file that a name means; None when there is no such file or the name is a model's.

    Raises:
        UnknownName: `unknown_model`, one file of an ncnn pair is missing.
    """
    if model.lower() in CARDS:
        return None
    for path in (Path(model), *(settings.weight_files(model) if settings is not None else ())):
        if is_pair(path) or (path.suffix.lower() in WEIGHT_SUFFIXES and path.is_file()):
            return card_for_file(path)
    return None


def _registered(model: str) -> ModelCard:
    card = registered_card(model)
    if card is None:
        raise unknown_model(model)
    return card


def unknown_model(model: object) -> UnknownName:
    """The error for a name that is neither a registered model's nor a weight file's."""
    return UnknownName(
        "unknown_model",
        f"'{model}' is neither a known model nor a .pth or .safetensors file, nor an ncnn .param with its .bin;"
        f" known are {', '.join(CARDS)}.",
    )


def card_for_file(path: Path) -> ModelCard:
    """The card of a user's weight file or ncnn pair of files. Its hash identifies it in content keys.

    Raises:
        UnknownName: `unknown_model`, it is not a weight file.
    """
    if is_pair(path):
        digest, size = pair_digest(path), pair_bytes(path)
    elif path.suffix.lower() in (".pth", ".pt", ".safetensors") and path.is_file():
        with path.open("rb") as file:
            digest, size = hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size
    else:
        raise unknown_model(path)
    return ModelCard(
        name=path.stem,
        file=path.name,
        url=None,
        sha256=digest,
        bytes=size,
        scale=None,
        architecture="any",
        licence="as its author says",
        attribution=path.name,
        purpose="your own file",
        actions=frozenset(action for action in ACTIONS if action in _ANY_ACTION),
        path=path.resolve(),
    )
