"""What all stages share as Prefect tasks: which failures are retried, and how a result is found again."""

from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE, CacheKeyFnPolicy, CachePolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext

from panelworks.domain.fields import digest_of
from panelworks.errors import Transient
from panelworks.settings import get_settings
from panelworks.version import ENGINE_VERSION

P = ParamSpec("P")
R = TypeVar("R")

_RECORDS: Final = "panelworks.domain"
"""Where the classes of results lie. Prefect stores a result with the module of its class: after a move it cannot be read."""
RETRY_DELAYS: Final[list[float]] = [2, 8, 30]
"""Seconds before each retry; jitter spreads them, so that pages do not all return at once."""
JITTER: Final = 0.5


def stage(
    name: str,
    *,
    timeout_seconds: int | None,
    run_name: str | None = None,
    identity: Callable[[dict[str, Any]], Any] | None = None,
) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a stage a task: retried when it may succeed later, timed, small JSON results.

    No tags: each run of a tagged task asks the server for limits of its tag, and on a busy SQLite the
    answer is 503 and a wait of two seconds or more. The GPU's limit is `tasks.gpu_slot`.

    Args:
        name: Name of the task.
        timeout_seconds: After which it is ended and counts as failed; None for one that runs in a thread, where
            Prefect cannot end it.
        run_name: Name of a run, may use the parameters; else the name of the task.
        identity: What of the arguments decides the result. Without it nothing is cached.
    """
    return task(
        name=name,
        task_run_name=run_name or name,
        retries=len(RETRY_DELAYS),
        retry_delay_seconds=RETRY_DELAYS,
        retry_jitter_factor=JITTER,
        retry_condition_fn=is_transient,
        timeout_seconds=timeout_seconds,
        cache_policy=_by_content(name, identity) if identity else NO_CACHE,
        result_serializer="json",
        cache_result_in_memory=False,
    )


def is_transient(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Retry only what may succeed later. (Prefect accepts only a plain function here.)"""
    try:
        state.result()
    except Transient:
        return True
    except Exception:  # noqa: BLE001 - every other failure, whatever it is, is final
        return False
    return False


def _by_content(name: str, identity: Callable[[dict[str, Any]], Any]) -> CachePolicy:
    """Cache by what decides the result: `identity` of the arguments, the engine, the store, the modules of its records.

    A key holds the stage's name, since Prefect's keys know neither task nor storage.
    """

    def key(context: TaskRunContext, arguments: dict[str, Any]) -> str:
        store = get_settings().store_location
        return f"{name}-{digest_of([name, ENGINE_VERSION, _RECORDS, store, identity(arguments)])}"

    return CacheKeyFnPolicy(cache_key_fn=key)
