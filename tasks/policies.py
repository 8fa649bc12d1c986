"""What the tasks share: which failures are retried, and how a result is found again."""

from collections.abc import Callable
from typing import Any, Final

from prefect import Task
from prefect.cache_policies import CacheKeyFnPolicy, CachePolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext

from panelworks.errors import Transient
from panelworks.keys import digest_of
from panelworks.settings import get_settings
from panelworks.version import ENGINE_VERSION

RETRIES: Final = 3
RETRY_DELAYS: Final[list[float]] = [2, 8, 30]
"""Seconds before each retry; jitter spreads them, so that pages do not all return at once."""
JITTER: Final = 0.5


def is_transient(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Retry only what may succeed later. (Prefect 3.8.8 wants a plain function here.)"""
    try:
        state.result()
    except Transient:
        return True
    except Exception:  # noqa: BLE001 - every other failure, whatever it is, is final
        return False
    return False


def by_content(stage: str, identity: Callable[[dict[str, Any]], Any]) -> CachePolicy:
    """Cache a stage by what decides its result: `identity` of its arguments, the engine, the store.

    A key holds the stage's name, since Prefect's keys know neither task nor storage.
    """

    def key(context: TaskRunContext, arguments: dict[str, Any]) -> str:
        store = get_settings().store_location
        return f"{stage}-{digest_of([stage, ENGINE_VERSION, store, identity(arguments)])}"

    return CacheKeyFnPolicy(cache_key_fn=key)
