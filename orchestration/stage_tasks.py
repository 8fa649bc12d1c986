"""Stages as Prefect tasks: which failures are retried, how a result is found again, and the limit of the GPU."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Final, ParamSpec, TypeVar

import httpx
from prefect import Task, task
from prefect.cache_policies import NO_CACHE, CacheKeyFnPolicy, CachePolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext

from panelworks.domain.fields import digest_of
from panelworks.domain.stages import STAGES, StageName
from panelworks.errors import Misconfigured, PanelworksError, Transient
from panelworks.settings import get_settings
from panelworks.version import ENGINE_VERSION

logger = logging.getLogger(__name__)
P = ParamSpec("P")
R = TypeVar("R")

RETRY_DELAYS_SECONDS: Final[list[float]] = [2, 8, 30]
"""Before each retry."""
RETRY_JITTER_FACTOR: Final = 0.5
"""Spreads the retries of pages that failed at the same time."""
SLOT_LEASE_SECONDS: Final = 60
_RESULT_PACKAGE: Final = "panelworks.domain"
"""Package of the result classes. Prefect stores a result with the module of its class and cannot read it after a move."""


def stage_task(name: StageName) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a function the task of a stage, with the options of the stage's row in the table.

    Raises:
        ValueError: the stage is not a task.
    """
    options = STAGES[name].task
    if options is None:
        raise ValueError(f"stage {name} is not a task")
    return retried_task(
        options.name,
        timeout_seconds=options.timeout_seconds,
        run_name=options.run_name,
        identity=options.identity,
    )


def retried_task(
    name: str,
    *,
    timeout_seconds: int | None,
    run_name: str | None = None,
    identity: Callable[[Mapping[str, Any]], Any] | None = None,
) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a function a task that is retried after transient errors and returns small JSON results.

    It has no tags: each run of a tagged task requests the limits of its tags from the server, and a busy SQLite
    database answers 503, which costs two seconds or more. `gpu_slot` applies the limit of the GPU.

    Args:
        name: Name of the task.
        timeout_seconds: The run fails after this time; None for a task in a thread, which Prefect cannot stop.
        run_name: Name of a run, a template over the arguments; `name` if None.
        identity: Returns the part of the arguments that decides the result; None: results are not cached.
    """
    return task(
        name=name,
        task_run_name=run_name or name,
        retries=len(RETRY_DELAYS_SECONDS),
        retry_delay_seconds=RETRY_DELAYS_SECONDS,
        retry_jitter_factor=RETRY_JITTER_FACTOR,
        retry_condition_fn=is_transient,
        timeout_seconds=timeout_seconds,
        cache_policy=_cache_by_content(name, identity) if identity else NO_CACHE,
        result_serializer="json",
        cache_result_in_memory=False,
    )


def is_transient(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Is a failure worth a retry? (Prefect accepts only a plain function here.)"""
    try:
        state.result()
    except Transient:
        return True
    except Exception:  # noqa: BLE001 - every other failure is final
        return False
    return False


def _cache_by_content(name: str, identity: Callable[[Mapping[str, Any]], Any]) -> CachePolicy:
    """Cache by everything that decides the result: identity of the arguments, engine, store, result classes.

    The key contains the stage's name, because Prefect's keys contain neither the task nor the storage.
    """

    def key(context: TaskRunContext, arguments: dict[str, Any]) -> str:
        store = get_settings().store_location
        return f"{name}-{digest_of([name, ENGINE_VERSION, _RESULT_PACKAGE, store, identity(arguments)])}"

    return CacheKeyFnPolicy(cache_key_fn=key)


@contextmanager
def gpu_slot() -> Iterator[None]:
    """Hold a slot of the concurrency limit PANELWORKS_GPU_LIMIT for a block; without the setting there is no limit.

    The synchronous context manager renews its lease in a thread of its own, also while a network blocks the event
    loop. A lease that cannot be renewed does not stop the page: one page too many at once is only slower.

    Raises:
        Transient: `prefect_away`, the server became unavailable while this waited for a slot.
        Misconfigured: `no_gpu_limit`, the server does not know the limit.
    """
    name = get_settings().gpu_limit
    if name is None:
        yield
        return
    from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
    from prefect.concurrency.sync import concurrency

    slot = concurrency(
        name,
        occupy=1,
        lease_duration=SLOT_LEASE_SECONDS,
        strict=True,
        raise_on_lease_renewal_failure=False,
    )
    try:
        slot.__enter__()
    except ConcurrencySlotAcquisitionError as error:
        raise _explain_acquisition_error(name, error) from error
    with ExitStack() as stack:
        stack.push(lambda *raised: _release_slot(slot, name, *raised))
        yield


def _release_slot(slot: AbstractContextManager[None], name: str, *raised: Any) -> bool | None:
    """Release the slot. If the server is unavailable, the slot is free when its lease expires; the page is computed."""
    try:
        return slot.__exit__(*raised)
    except httpx.HTTPError as error:
        logger.warning("the slot of '%s' was not released: %s; its lease ends it", name, type(error).__name__)
        return None


def _explain_acquisition_error(name: str, error: Exception) -> PanelworksError:
    """Prefect raises one exception for an unavailable server and for an unknown limit."""
    cause = error.__cause__
    refused = isinstance(cause, httpx.HTTPStatusError) and cause.response.status_code < 500
    if cause is None or refused:
        return Misconfigured(
            "no_gpu_limit", f"The Prefect server has no limit '{name}'; run 'panelworks provision'."
        )
    return Transient("prefect_away", "The Prefect server became unavailable during the wait for a GPU slot.")
