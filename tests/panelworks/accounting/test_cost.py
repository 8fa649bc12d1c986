"""The cost of pages."""

import pytest

from panelworks.accounting.ledger import compute_cost, device_price_per_hour
from panelworks.domain.result import Cost
from panelworks.settings import Settings

STAGES = {"ingest": 0.2, "enhance": 3.0, "fallback": 0.6, "variants": 0.4, "total": 4.4}


@pytest.mark.parametrize(
    ("given", "price"),
    [
        ({}, None),
        ({"gpu_price_per_hour": 0.5}, 0.5),
        ({"pool": "runpod", "prices": "runpod=0.43, ecs=0.8"}, 0.43),
        ({"pool": "ecs", "prices": "ecs=0.8", "gpu_price_per_hour": 0.6}, 0.6),
        ({"pool": "box", "prices": "ecs=0.8"}, None),
    ],
)
def test_the_price_is_that_of_the_machine_or_of_its_pool(
    given: dict[str, object], price: float | None
) -> None:
    assert device_price_per_hour(Settings.model_validate(given)) == price


def test_the_table_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PANELWORKS_POOL", "ecs")
    monkeypatch.setenv("PANELWORKS_PRICES", "ecs=0.8")
    assert device_price_per_hour(Settings()) == 0.8


@pytest.mark.parametrize("wrong", ["ecs", "ecs=cheap", "ecs=-1"])
def test_an_invalid_price_table_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="prices"):
        Settings.model_validate({"prices": wrong})


def test_a_page_costs_its_device_seconds() -> None:
    settings = Settings.model_validate({"pool": "ecs", "prices": "ecs=0.5"})
    assert compute_cost(STAGES, settings, cached=False) == Cost(pool="ecs", gpu_seconds=3.6, usd=0.0005)
    assert compute_cost(STAGES, settings, cached=True) == Cost(pool="ecs", gpu_seconds=0.0, usd=0.0)
    assert compute_cost(STAGES, Settings(), cached=False).usd is None
