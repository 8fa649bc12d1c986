"""Stages as Prefect tasks: which failures are retried, and how a result is found again."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, ParamSpec, TypeVar

import anyio
from prefect import Task, task
from prefect.cache_policies import NO_CACHE, CacheKeyFnPolicy, CachePolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext

from panelworks.domain.fields import digest_of
from panelworks.domain.stages import STAGES, StageName
from panelworks.errors import Transient
from panelworks.settings import get_settings
from panelworks.version import ENGINE_VERSION

logger = logging.getLogger(__name__)
P = ParamSpec("P")
R = TypeVar("R")

RETRY_DELAYS_SECONDS: Final[list[float]] = [2, 8, 30]
"""Before each retry."""
RETRY_JITTER_FACTOR: Final = 0.5
"""Spreads the retries of pages that failed at the same time."""
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
    database answers 503, which costs two seconds or more. `device.gpu_slot` applies the limit of the GPU.

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


async def retry_transient(call: Callable[[], R]) -> R:
    """Call a function, with the retries of a task but without a task run.

    Raises:
        Transient: also the last retry failed.
    """
    for delay in RETRY_DELAYS_SECONDS:
        try:
            return call()
        except Transient as error:
            logger.warning("retry in %.0f s: %s", delay, error.message)
            await anyio.sleep(delay)
    return call()


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
