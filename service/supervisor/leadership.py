"""The lease of the supervisor that acts. The others wait and take over when the lease is not renewed.

The lease is a Prefect variable, which all supervisors and gateways of a server share. Creating a variable is atomic;
renewing and deleting name the variable's id, so that they never touch the lease of a successor. The leader changes the
value every few seconds. A supervisor that sees no change for `lease_seconds`, by its own clock, takes over.
The value also holds the leader's counters: every gateway shows them, and a successor continues them.

Prefect's concurrency limits are not used: with leases in memory, which is Prefect's default, a restart of the server
forgets the lease but not the occupied slot, and there would never be a leader again.
"""

import asyncio
import logging
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import VariableCreate
from prefect.client.schemas.objects import Variable
from prefect.exceptions import ObjectAlreadyExists, PrefectException
from pydantic import ValidationError

from panelworks.domain.fields import Frozen

logger = logging.getLogger(__name__)

LEASE_VARIABLE: Final = "panelworks_gateway_leader"
"""The name from when gateways did this work: while an installation is upgraded, an old gateway and a new supervisor
exclude each other."""
LEASE_SECONDS: Final = 20.0
_RENEWALS_PER_LEASE: Final = 4
_MAX_RENEWAL_AGE: Final = timedelta(seconds=60)
"""Age of a renewal from which the supervisor counts as missing: three leases, since clocks of machines differ."""


class CallbackCounters(Frozen):
    """Attempts to deliver a callback by outcome, and the callbacks that wait."""

    delivered: int = 0
    retried: int = 0
    failed: int = 0
    pending: int = 0


class Lease(Frozen):
    """What the variable holds."""

    supervisor: str | None = None
    """Identity of the leader; None after the leader stopped."""
    renewal: int = 0
    """Grows with each renewal, so that every renewal changes the value."""
    callbacks: CallbackCounters = CallbackCounters()


class LeaseStatus(Frozen):
    """The lease as others see it."""

    is_held: bool
    """Does a supervisor renew it?"""
    callbacks: CallbackCounters | None = None
    """None: no supervisor has ever recorded any."""


async def read_lease_status(client: PrefectClient) -> LeaseStatus:
    """Whether a supervisor acts for this server, and its counters.

    Raises:
        httpx.HTTPError, PrefectException: the server does not answer.
    """
    variable = await client.read_variable_by_name(LEASE_VARIABLE)
    lease = _lease_of(variable)
    if variable is None or lease is None:
        return LeaseStatus(is_held=False)
    age = datetime.now(UTC) - (variable.updated or datetime.min.replace(tzinfo=UTC))
    return LeaseStatus(
        is_held=lease.supervisor is not None and age < _MAX_RENEWAL_AGE, callbacks=lease.callbacks
    )


class Leadership:
    """Whether this supervisor is the leader."""

    def __init__(self, lease_seconds: float = LEASE_SECONDS) -> None:
        self.callbacks = CallbackCounters()
        """Recorded with each renewal. A supervisor that becomes the leader continues those of its predecessor."""
        self._lease_seconds = lease_seconds
        self._identity = uuid.uuid4().hex
        self._renewals = 0
        self._held_until = 0.0
        self._variable: Variable | None = None
        """The variable that this supervisor created, while it holds the lease."""
        self._seen: tuple[UUID, Any] | None = None
        self._seen_at = 0.0
        self._answered_at = time.monotonic()

    @property
    def leads(self) -> bool:
        """May this supervisor act now? False as soon as its lease is older than another supervisor would accept."""
        return time.monotonic() < self._held_until

    @property
    def is_connected(self) -> bool:
        """Did the server answer about the lease recently?"""
        return time.monotonic() - self._answered_at < 2 * self._lease_seconds

    async def run(self) -> None:
        """Acquire and renew the lease for as long as the supervisor runs, then release it."""
        async with get_client() as client:
            try:
                while True:
                    await self._update(client)
                    await asyncio.sleep(self._lease_seconds / _RENEWALS_PER_LEASE)
            finally:
                await asyncio.shield(self._release(client))

    async def _update(self, client: PrefectClient) -> None:
        led, begin = self.leads, time.monotonic()
        try:
            holds = await self._hold(client)
        except (httpx.HTTPError, PrefectException) as error:
            logger.warning("lease not renewed: %s", type(error).__name__)
            return
        self._answered_at = time.monotonic()
        # Others count from the moment at which they see the value, which is later than this one.
        self._held_until = begin + self._lease_seconds * (1 - 1 / _RENEWALS_PER_LEASE) if holds else 0.0
        if holds and not led:
            logger.info("supervisor %s leads: it acquired the lease", self._identity[:8])
        elif led and not holds:
            logger.warning("supervisor %s no longer leads: another one holds the lease", self._identity[:8])

    async def _hold(self, client: PrefectClient) -> bool:
        """Renew, acquire or take over the lease; returns whether this supervisor holds it."""
        variable = await client.read_variable_by_name(LEASE_VARIABLE)
        if variable is None:
            return await self._create(client, None)
        if self._variable is not None and variable.id == self._variable.id:
            return await self._renew(client, variable)
        lease, seen = _lease_of(variable), (variable.id, variable.value)
        if lease is not None and lease.supervisor is None:
            return await self._replace(client, variable)
        if seen != self._seen:
            self._seen, self._seen_at = seen, time.monotonic()
        elif time.monotonic() - self._seen_at > self._lease_seconds:
            return await self._replace(client, variable)
        return False

    async def _replace(self, client: PrefectClient, variable: Variable) -> bool:
        """Take over the lease of a supervisor that stopped or died: of several supervisors, one succeeds."""
        if not await _change(client, "DELETE", variable.id):
            return False
        return await self._create(client, _lease_of(variable))

    async def _create(self, client: PrefectClient, previous: Lease | None) -> bool:
        if previous is not None:
            self.callbacks = previous.callbacks
        value, tags = self._value(self._identity), ["panelworks", "do-not-edit"]
        try:
            self._variable = await client.create_variable(
                VariableCreate(name=LEASE_VARIABLE, value=value, tags=tags)
            )
        except ObjectAlreadyExists:
            return False
        return True

    async def _renew(self, client: PrefectClient, variable: Variable) -> bool:
        self._renewals += 1
        return await _change(client, "PATCH", variable.id, {"value": self._value(self._identity)})

    async def _release(self, client: PrefectClient) -> None:
        """Record that the lease is free, so that another supervisor takes over at once."""
        self._held_until = 0.0
        if self._variable is None:
            return
        try:
            await _change(client, "PATCH", self._variable.id, {"value": self._value(None)})
        except (httpx.HTTPError, PrefectException) as error:
            logger.warning("lease not released: %s", type(error).__name__)

    def _value(self, supervisor: str | None) -> dict[str, Any]:
        lease = Lease(supervisor=supervisor, renewal=self._renewals, callbacks=self.callbacks)
        return lease.model_dump(mode="json")


async def _change(
    client: PrefectClient,
    method: Literal["PATCH", "DELETE"],
    variable_id: UUID,
    json: dict[str, Any] | None = None,
) -> bool:
    """Update or delete a variable by its id; False when it no longer exists."""
    try:
        await client.request(method, "/variables/{id}", path_params={"id": variable_id}, json=json)
    except httpx.HTTPStatusError as error:
        if error.response.status_code == httpx.codes.NOT_FOUND:
            return False
        raise
    return True


def _lease_of(variable: Variable | None) -> Lease | None:
    """The lease in a variable; None for the value of an earlier release, or one that somebody edited."""
    try:
        return None if variable is None else Lease.model_validate(variable.value)
    except ValidationError:
        return None
