"""AuraSR: a generative network that draws new detail, four times larger."""

from contextlib import AbstractContextManager
from typing import Final

from panelworks.models.loading import Recipe, residency
from panelworks.models.network import Network
from panelworks.providers.network import NetworkProvider
from panelworks.settings import Settings


class AuraProvider(NetworkProvider):
    """AuraSR's network in overlapping tiles of the one size that it takes."""

    name: Final = "aura"  # type: ignore[misc] # another provider than the one that it extends
    packages = ("aura_sr",)

    def lend(self, recipe: Recipe, settings: Settings) -> AbstractContextManager[Network]:
        from panelworks.models.aura import load_aura

        key = ("aura", recipe.card.sha256, settings.device)
        held = residency(settings.keep_models_seconds, settings.keep_models_bytes)
        return held.lent(key, lambda: load_aura(recipe.card, settings))
