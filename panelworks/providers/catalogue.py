"""Which provider performs which action."""

from typing import Final

from panelworks.errors import UnknownName
from panelworks.providers.base import Provider
from panelworks.providers.network import NetworkProvider
from panelworks.providers.resample import ResampleProvider
from panelworks.records import Action

PROVIDERS: Final[tuple[Provider, ...]] = (NetworkProvider(), ResampleProvider())


def provider_for(action: Action) -> Provider:
    """The provider of an action.

    Raises:
        UnknownName: `no_provider`, nothing installed performs it.
    """
    for provider in PROVIDERS:
        if action in provider.actions:
            return provider
    raise UnknownName("no_provider", f"Nothing that is installed performs the action '{action}'.")
