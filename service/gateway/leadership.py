"""One of several gateways acts for all: it restarts crashed pages, delivers callbacks and pauses queues when the budget
is spent.

The leader holds a Prefect variable, which all gateways of a server share. Creating it is atomic. The leader changes its
value every few seconds; a gateway that sees no change for `lease_seconds`, by its own clock, takes over. Prefect's
concurrency limits are not used: with leases in memory, which is Prefect's default, a restart of the server forgets
the lease but not the occupied slot, and there would never be a leader again.
"""

import asyncio
import logging
import time
import uuid
from typing import Any, Final

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import VariableCreate, VariableUpdate
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound, PrefectException

logger = logging.getLogger(__name__)

_VARIABLE: Final = "panelworks_gateway_leader"
_LEASE_SECONDS: Final = 20.0
_RENEWALS: Final = 4
"""Per lease."""


class Leadership:
    """Whether this gateway is the leader."""

    def __init__(self, lease_seconds: float = _LEASE_SECONDS) -> None:
        self._lease = lease_seconds
        self._identity = uuid.uuid4().hex
        self._count = 0
        self._held_until = 0.0
        self._seen: Any = None
        self._seen_at = 0.0

    @property
    def leads(self) -> bool:
        """May this gateway act now? False as soon as its lease is older than another gateway would accept."""
        return time.monotonic() < self._held_until

    async def run(self) -> None:
        """Acquire and renew the lease for as long as the gateway runs, then release it."""
        async with get_client() as client:
            try:
                while True:
                    await self._look(client)
                    await asyncio.sleep(self._lease / _RENEWALS)
            finally:
                await asyncio.shield(self._release(client))

    async def _look(self, client: PrefectClient) -> None:
        led, begin = self.leads, time.monotonic()
        try:
            held = await self._hold(client)
        except (httpx.HTTPError, PrefectException) as error:
            logger.warning("the gateway's lease is not renewed: %s", type(error).__name__)
            return
        # Others count from the moment at which they see the value, which is later than this one.
        self._held_until = begin + self._lease * (1 - 1 / _RENEWALS) if held else 0.0
        if held and not led:
            logger.info(
                "this gateway leads: it restarts crashed pages, delivers callbacks and applies the budget"
            )
        elif led and not held:
            logger.warning(
                "this gateway no longer leads: another one restarts crashed pages, delivers callbacks and applies the budget"
            )

    async def _hold(self, client: PrefectClient) -> bool:
        """Renew, acquire or take over the lease; gives whether this gateway holds it."""
        variable = await client.read_variable_by_name(_VARIABLE)
        if variable is None:
            return await self._create(client)
        value = variable.value
        if isinstance(value, dict) and value.get("gateway") == self._identity:
            self._count += 1
            await client.update_variable(VariableUpdate(name=_VARIABLE, value=self._value()))
            return True
        if value != self._seen:
            self._seen, self._seen_at = value, time.monotonic()
        elif time.monotonic() - self._seen_at > self._lease:
            await self._delete(client)
            return await self._create(client)
        return False

    async def _create(self, client: PrefectClient) -> bool:
        created = VariableCreate(name=_VARIABLE, value=self._value(), tags=["panelworks", "do-not-edit"])
        try:
            await client.create_variable(created)
        except ObjectAlreadyExists:
            return False
        return True

    async def _delete(self, client: PrefectClient) -> None:
        try:
            await client.delete_variable_by_name(_VARIABLE)
        except ObjectNotFound:
            return

    async def _release(self, client: PrefectClient) -> None:
        if not self.leads:
            return
        self._held_until = 0.0
        try:
            await self._delete(client)
        except (httpx.HTTPError, PrefectException) as error:
            logger.warning("the gateway's lease is not released: %s", type(error).__name__)

    def _value(self) -> dict[str, Any]:
        return {"gateway": self._identity, "renewal": self._count}
