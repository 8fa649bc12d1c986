"""The registry of networks: official files with their hashes, licences and uses."""

import hashlib
from pathlib import Path
from typing import Final, Literal

from panelworks.errors import UnknownName
from panelworks.frozen import Frozen

Architecture = Literal["compact", "rrdb", "any"]
"""`any`: whatever spandrel finds in a file given by its path."""

_REAL_ESRGAN: Final = "https://github.com/xinntao/Real-ESRGAN/releases/download"
_BSD: Final = "BSD-3-Clause"
_XINNTAO: Final = "Real-ESRGAN by Xintao Wang et al."
BUNDLED: Final = "panelworks-2x"
"""Name of the network that ships with the package."""
DEFAULT_4X: Final = "realesr-animevideov3"
"""The 4x network that `auto` takes: small, drawn content."""


class ModelCard(Frozen):
    """What is known of a network before its weights are opened."""

    name: str
    file: str
    """File name; looked for under this name in MODEL_PATH and in the cache."""
    url: str | None
    """Where the file is published; None for one that is bundled or the user's own."""
    sha256: str
    bytes: int
    scale: int | None
    """Enlargement; None when only opening the file tells."""
    architecture: Architecture
    licence: str
    attribution: str
    purpose: str
    path: Path | None = None
    """Where the file lies, when that is already known."""


def _official(
    name: str, version: str, size: int, sha256: str, scale: int, architecture: Architecture, purpose: str
) -> ModelCard:
    return ModelCard(
        name=name.lower(),
        file=f"{name}.pth",
        url=f"{_REAL_ESRGAN}/{version}/{name}.pth",
        sha256=sha256,
        bytes=size,
        scale=scale,
        architecture=architecture,
        licence=_BSD,
        attribution=_XINNTAO,
        purpose=purpose,
    )


def _bundled() -> ModelCard:
    path = Path(__file__).with_name("bundled") / f"{BUNDLED}.safetensors"
    data = path.read_bytes()
    return ModelCard(
        name=BUNDLED,
        file=path.name,
        url=None,
        sha256=hashlib.sha256(data).hexdigest(),
        bytes=len(data),
        scale=2,
        architecture="compact",
        licence="Apache-2.0",
        attribution="Panelworks; trained on openly licensed pages named in NOTICE",
        purpose="drawn pages; the default, needs no download",
        path=path,
    )


CARDS: Final[dict[str, ModelCard]] = {
    card.name: card
    for card in (
        _bundled(),
        _official(
            "RealESRGAN_x2plus", "v0.2.1", 67_061_725,
            "49fafd45f8fd7aa8d31ab2a22d14d91b536c34494a5cfe31eb5d89c2fa266abb",
            2, "rrdb", "photographs and painted pages, 2x; slow without a GPU",
        ),
        _official(
            "RealESRGAN_x4plus", "v0.1.0", 67_040_989,
            "4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1",
            4, "rrdb", "photographs and painted pages, 4x; slow without a GPU",
        ),
        _official(
            "RealESRGAN_x4plus_anime_6B", "v0.2.2.4", 17_938_799,
            "f872d837d3c90ed2e05227bed711af5671a6fd1c9f7d7e91c911a61f155e99da",
            4, "rrdb", "anime illustrations, 4x",
        ),
        _official(
            "realesr-animevideov3", "v0.2.5.0", 2_504_012,
            "b8a8376811077954d82ca3fcf476f1ac3da3e8a68a4f4d71363008000a18b75d",
            4, "compact", "drawn content, 4x, small and fast",
        ),
        _official(
            "realesr-general-x4v3", "v0.2.5.0", 4_885_111,
            "8dc7edb9ac80ccdc30c3a5dca6616509367f05fbc184ad95b731f05bece96292",
            4, "compact", "general pictures, 4x, small",
        ),
        _official(
            "realesr-general-wdn-x4v3", "v0.2.5.0", 4_885_111,
            "1641f8c4464b9f097c9fdda5589273713f67cf59f3d909e0bd688f0cee269dca",
            4, "compact", "general noisy pictures, 4x, denoises strongly",
        ),
    )
}  # fmt: skip
"""Every network known by name."""


def card_for(model: str) -> ModelCard:
    """The card of a registered name, or of a weight file given by its path.

    Raises:
        UnknownName: `unknown_model`, neither a registered name nor a weight file.
    """
    card = CARDS.get(model.lower())
    return card if card is not None else card_for_file(Path(model))


def card_for_file(path: Path) -> ModelCard:
    """A card for a user's own file; its hash identifies it in content keys."""
    if path.suffix.lower() not in (".pth", ".pt", ".safetensors") or not path.is_file():
        known = ", ".join(CARDS)
        raise UnknownName(
            "unknown_model",
            f"'{path}' is neither a known model nor a .pth or .safetensors file; known are {known}.",
        )
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ModelCard(
        name=path.stem,
        file=path.name,
        url=None,
        sha256=digest,
        bytes=path.stat().st_size,
        scale=None,
        architecture="any",
        licence="as its author says",
        attribution=path.name,
        purpose="your own file",
        path=path.resolve(),
    )
