"""The documentation names what there is."""

from pathlib import Path

import pytest

from panelworks.domain.cards import ACTIONS, CARDS
from panelworks.steps.catalogue import PROVIDERS

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", CARDS)
def test_every_model_has_its_card(name: str) -> None:
    text = (DOCS / "how-to" / "models.md").read_text()
    assert f"`{name}`" in text
    assert CARDS[name].licence in text


def test_every_provider_and_method_is_named() -> None:
    providers, models = ((DOCS / "how-to" / name).read_text() for name in ("providers.md", "models.md"))
    for provider in PROVIDERS.values():
        assert f"`{provider.name}`" in providers
        assert all(f"`{method}`" in models for method in provider.methods), provider.name
    assert all(action in providers for action in ACTIONS if action != "enhance")
