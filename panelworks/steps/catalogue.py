"""The providers, taking the inventory that planning needs, and making a step of an action."""

from importlib.util import find_spec
from typing import Any, Final

from panelworks.domain.cards import ACTIONS, CARDS, Action, ModelCard
from panelworks.domain.plan import Step
from panelworks.errors import UnknownName
from panelworks.models.registry import find_own_file
from panelworks.models.weights import installed_path, read_recorded_digest
from panelworks.settings import Settings
from panelworks.steps.base import Provider
from panelworks.steps.cutout import CutoutProvider
from panelworks.steps.deblocking import DeblockingProvider
from panelworks.steps.face import FaceProvider
from panelworks.steps.inpainting import InpaintingProvider
from panelworks.steps.inventory import Choice, Inventory, networks_to_look_for, read_choices, read_detectors
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


def provider_named(name: str) -> Provider:
    """A provider whose packages are installed.

    Raises:
        UnknownName: `no_provider`.
    """
    return _usable_provider(name, _missing_packages())


def take_inventory(settings: Settings, *models: str) -> Inventory:
    """Look at this machine on behalf of planning. Nothing is downloaded and nothing is written.

    Args:
        settings: Where weights lie, whether they may be downloaded, and which file configures the providers.
        models: Names of networks or weight files that the request states.

    Raises:
        Misconfigured: `bad_providers`. UnknownName: `unknown_model`, a weight file is incomplete.
    """
    choices = read_choices(settings)
    default = settings.default_network
    names = [*models, *(str(default),) * (default is not None)]
    for choice in choices.values():
        names += [choice.model, *([str(choice.config["partner"])] if "partner" in choice.config else [])]
    files = {name: find_own_file(name, settings) for name in dict.fromkeys(names)}
    unpublished = (card for card in CARDS.values() if not card.sha256)
    digests = {card.name: read_recorded_digest(card, settings) for card in unpublished}
    return Inventory(
        choices=choices,
        default_network=None if default is None else str(default),
        files={name: card for name, card in files.items() if card is not None},
        installed=frozenset(
            card.name for card in networks_to_look_for(choices) if installed_path(card, settings) is not None
        ),
        obtainable=frozenset(
            card.name for card in CARDS.values() if card.url is not None and not settings.offline
        ),
        digests={name: digest for name, digest in digests.items() if digest is not None},
        missing_packages=_missing_packages(),
        detectors=read_detectors(settings),
    )


def step_for(action: Action, inventory: Inventory, model: str | None = None, **config: Any) -> Step:
    """A step that performs an action as configured, or by the model that is named.

    The digest of weights whose hash is not known yet is empty; `identify_weights` completes it.

    Raises:
        UnknownName: `unknown_model`, `no_provider`, or the model does not perform the action.
    """
    choice = inventory.choices[action]
    if model is not None and model != choice.model:
        choice = Choice(model=model, provider=choice.provider if choice.provider == "upstream" else None)
    config = {**choice.config, **config}
    method = next((one for one in PROVIDERS.values() if choice.model in one.methods), None)
    if method is not None:
        _check_action(action, choice.model, method.methods[choice.model])
        provider = _usable_provider(method.name, inventory.missing_packages)
        return Step(action=action, provider=provider.name, model=choice.model, config=config)
    card = inventory.card_named(choice.model)
    _check_action(action, choice.model, card.actions)
    provider = _usable_provider(
        choice.provider or _default_provider(card.provider, action), inventory.missing_packages
    )
    return Step(
        action=action,
        provider=provider.name,
        model=card.name,
        digest=card.sha256,
        weights=str(card.path) if card.architecture == "any" else None,
        config=_complete_config(config, card, inventory),
    )


def _complete_config(config: dict[str, Any], card: ModelCard, inventory: Inventory) -> dict[str, Any]:
    """The configuration of a step with the digests of the further weights that decide its result."""
    if "partner" in config or (card.partner and config.get("strength", 1.0) < 1):
        partner = inventory.card_named(str(config.get("partner") or card.partner))
        config = {**config, "partner": str(partner.path or partner.name), "partner_digest": partner.sha256}
    unpublished = [name for name in card.parts if not CARDS[name].sha256]
    return {**config, **{name: inventory.card_named(name).sha256 for name in unpublished}}


def _missing_packages() -> frozenset[str]:
    """The optional packages of providers that are not installed."""
    needed = {package for provider in PROVIDERS.values() for package in provider.packages}
    return frozenset(package for package in needed if find_spec(package) is None)


def _usable_provider(name: str, missing_packages: frozenset[str]) -> Provider:
    provider = PROVIDERS.get(name)
    if provider is None:
        raise UnknownName("no_provider", f"There is no provider '{name}'; known are {', '.join(PROVIDERS)}.")
    missing = [package for package in provider.packages if package in missing_packages]
    if missing:
        raise UnknownName(
            "no_provider",
            f"The provider '{name}' needs packages that are not installed ({', '.join(missing)}):"
            f" pip install 'panelworks[{name}]'.",
        )
    return provider


def _default_provider(provider: str, action: Action) -> str:
    """The provider of the card; inpainting has its own one for any weight file."""
    return "inpainting" if action == "inpaint" else provider


def _check_action(action: Action, model: str, actions: frozenset[Action]) -> None:
    if action not in actions:
        able = ", ".join(one for one in ACTIONS if one in actions) or "nothing by itself"
        raise UnknownName("unknown_model", f"'{model}' does not do '{action}', but {able}.")
