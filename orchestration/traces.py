"""The trace of a page in Prefect, and the ids of runs in log lines.

Prefect makes the spans of flow runs and task runs itself. It finds the parent of a flow run's span in a label of the run.
The gateway creates runs with this label and the warm worker adds it; other runs of events begin without it. They get a
span that continues the event's trace and is linked to the span of the flow run; their tasks are below it.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Final

from prefect.context import FlowRunContext, TaskRunContext
from prefect.telemetry.run_telemetry import LABELS_TRACEPARENT_KEY

from panelworks.domain.request import PageRequest
from panelworks.errors import Misconfigured
from panelworks.logs import log_ids, provide_log_ids
from panelworks.settings import get_settings
from panelworks.telemetry import Span, current_span, current_traceparent, start_telemetry, trace_span

logger = logging.getLogger(__name__)

SERVICE: Final = "panelworks-run"
"""Name of processes that execute runs, unless OTEL_SERVICE_NAME is set."""


def start_traces() -> None:
    """Trace the runs of this process if a collector is set. Without the extra `otel`, runs continue with a warning."""
    provide_log_ids(run_ids)
    try:
        start_telemetry(SERVICE, get_settings())
    except Misconfigured as error:
        logger.warning("runs are not traced: %s", error)


def run_ids() -> Mapping[str, str]:
    """The ids of the flow run and the task run that are executed here."""
    flow, task = FlowRunContext.get(), TaskRunContext.get()
    ids = {"task_run_id": str(task.task_run.id)} if task is not None else {}
    if flow is not None and flow.flow_run is not None:
        ids["flow_run_id"] = str(flow.flow_run.id)
    return ids


@contextmanager
def trace_page(request: PageRequest) -> Iterator[Span]:
    """Process a page within the trace that requested it; yields the page's span."""
    with ExitStack() as stack:
        stack.enter_context(log_ids(job_id=request.job_id))
        span = stack.enter_context(_continued(request)) if _is_in_another_trace(request) else current_span()
        span.set(job_id=request.job_id)
        yield span


def _is_in_another_trace(request: PageRequest) -> bool:
    wanted, current = request.origin.traceparent, current_traceparent()
    return wanted is not None and current is not None and _trace_of(wanted) != _trace_of(current)


def _trace_of(traceparent: str) -> str:
    return traceparent.split("-")[1]


@contextmanager
def _continued(request: PageRequest) -> Iterator[Span]:
    """A span in the trace of the request. Tasks and subflows find their parent in the label."""
    run = FlowRunContext.get()
    with trace_span("page", kind="consumer", parent=request.origin.traceparent, linked=True) as span:
        ours = current_traceparent()
        if run is not None and run.flow_run is not None and ours is not None:
            run.flow_run.labels[LABELS_TRACEPARENT_KEY] = ours
        yield span
