"""What pages cost: seconds of the device times the price of its work pool."""

from collections.abc import Mapping
from typing import Final

from panelworks.domain.result import Cost
from panelworks.domain.stages import STAGES
from panelworks.settings import Settings

_SECONDS_PER_HOUR: Final = 3600


def price_per_hour(settings: Settings) -> float | None:
    """US dollars an hour of this machine's device: its own price, else that of its pool in the table; None without."""
    return settings.gpu_price_per_hour or dict(settings.prices).get(settings.pool or "") or None


def price_of(seconds: float, settings: Settings) -> float | None:
    """US dollars of some seconds of this machine's device; None without a price."""
    price = price_per_hour(settings)
    return None if price is None else round(seconds / _SECONDS_PER_HOUR * price, 6)


def cost_of(seconds: Mapping[str, float], settings: Settings, *, cached: bool) -> Cost:
    """What a page cost, from its seconds by stage."""
    spent = (
        0.0
        if cached
        else round(sum(seconds.get(name, 0.0) for name, stage in STAGES.items() if stage.uses_device), 3)
    )
    return Cost(pool=settings.pool, gpu_seconds=spent, usd=price_of(spent, settings))
