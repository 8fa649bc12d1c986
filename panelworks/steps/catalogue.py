"""Which provider performs which action, and with what: the defaults, and a file that changes them."""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from panelworks.domain.cards import ACTIONS, CARDS, Action
from panelworks.domain.fields import Frozen
from panelworks.domain.plan import Config, Step
from panelworks.errors import Misconfigured, UnknownName
from panelworks.models.registry import card_for
from panelworks.models.weights import pinned
from panelworks.settings import Settings
from panelworks.steps.base import Provider
from panelworks.steps.cutout import CutoutProvider
from panelworks.steps.deblocking import DeblockingProvider
from panelworks.steps.face import FaceProvider
from panelworks.steps.inpainting import InpaintingProvider
from panelworks.steps.tone import ToneProvider
from panelworks.steps.upscale import AuraProvider, NetworkProvider, ResampleProvider, UpstreamProvider

PROVIDERS: Final[dict[str, Provider]] = {
    provider.name: provider
    for provider in (
        NetworkProvider(), ResampleProvider(), DeblockingProvider(), ToneProvider(), InpaintingProvider(),
        AuraProvider(), FaceProvider(), CutoutProvider(), UpstreamProvider(),
    )
}  # fmt: skip
"""All providers by name."""

AUTO: Final = "auto"
"""Model that the plan chooses: for `upscale` by the enlargement, for `fix_artifacts` by what is here."""


class Choice(Frozen):
    """What performs an action: a model or method, perhaps by a provider other than its own, perhaps configured."""

    model: str
    provider: str | None = None
    config: Config = Field(default_factory=dict)


DEFAULTS: Final[dict[Action, Choice]] = {
    "inpaint": Choice(model="telea"),
    "fix_artifacts": Choice(model=AUTO),
    "descreen": Choice(model="opencomic-descreen"),
    "denoise": Choice(model="realesr-general-x4v3"),
    "upscale": Choice(model=AUTO),
    "enhance": Choice(model="aura-sr-v2"),
    "resize": Choice(model="lanczos"),
    "face": Choice(model="gfpgan-1.4"),
    "colour": Choice(model="levels"),
    "rembg": Choice(model="isnet-anime"),
}
"""What performs each action unless PANELWORKS_PROVIDERS says otherwise."""


def configured_choices(settings: Settings) -> dict[Action, Choice]:
    """What performs each action.

    Raises:
        Misconfigured: `bad_providers`, the file cannot be read or names what is not there.
    """
    return {**DEFAULTS, **(_read_choices(settings.providers) if settings.providers else {})}


def provider_named(name: str) -> Provider:
    """A provider whose packages are installed.

    Raises:
        UnknownName: `no_provider`.
    """
    provider = PROVIDERS.get(name)
    if provider is None:
        raise UnknownName("no_provider", f"There is no provider '{name}'; known are {', '.join(PROVIDERS)}.")
    missing = [package for package in provider.packages if find_spec(package) is None]
    if missing:
        raise UnknownName(
            "no_provider",
            f"The provider '{name}' needs packages that are not installed ({', '.join(missing)}):"
            f" pip install 'panelworks[{name}]'.",
        )
    return provider


def step_for(action: Action, settings: Settings, model: str | None = None, **config: Any) -> Step:
    """A step that performs an action as configured, or by the model that is named.

    Raises:
        UnknownName: `unknown_model`, `no_provider`, or the model does not perform the action.
        Transient: the model's hash is nowhere published, and its file could not be downloaded.
    """
    choice = configured_choices(settings)[action]
    if model is not None and model != choice.model:
        choice = Choice(model=model, provider=choice.provider if choice.provider == "upstream" else None)
    config = {**choice.config, **config}
    method = next((one for one in PROVIDERS.values() if choice.model in one.methods), None)
    if method is not None:
        _check_action(action, choice.model, method.methods[choice.model])
        return Step(
            action=action, provider=provider_named(method.name).name, model=choice.model, config=config
        )
    card = card_for(choice.model, settings)
    _check_action(action, choice.model, card.actions)
    provider = provider_named(choice.provider or _default_provider(card.provider, action))
    card = pinned(card, settings)
    if "partner" in config or (card.partner and config.get("strength", 1.0) < 1):
        partner = card_for(str(config.get("partner") or card.partner), settings)
        config |= {"partner": str(partner.path or partner.name), "partner_digest": partner.sha256}
    for part in (CARDS[name] for name in card.parts if not CARDS[name].sha256):
        config |= {part.name: pinned(part, settings).sha256}  # a published hash is part of the program
    return Step(
        action=action,
        provider=provider.name,
        model=card.name,
        digest=card.sha256,
        weights=str(card.path) if card.architecture == "any" else None,
        config=config,
    )


def _default_provider(provider: str, action: Action) -> str:
    """That of the card; inpainting has one of its own for any file."""
    return "inpainting" if action == "inpaint" else provider


def _check_action(action: Action, model: str, actions: frozenset[Action]) -> None:
    if action not in actions:
        able = ", ".join(one for one in ACTIONS if one in actions) or "nothing by itself"
        raise UnknownName("unknown_model", f"'{model}' does not do '{action}', but {able}.")


@lru_cache(maxsize=4)
def _read_choices(path: Path) -> dict[Action, Choice]:
    """The choices in a file; a plain text is the name of a model or method."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        if isinstance(content, dict):
            content = {k: {"model": v} if isinstance(v, str) else v for k, v in content.items()}
        return TypeAdapter(dict[Action, Choice]).validate_python(content)
    except (OSError, yaml.YAMLError) as error:
        raise Misconfigured(
            "bad_providers", f"PANELWORKS_PROVIDERS: {path} cannot be read ({type(error).__name__})."
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Misconfigured(
            "bad_providers", f"PANELWORKS_PROVIDERS: {path}: {place}: {first['msg']}."
        ) from error
