"""The stages of a page: one table. The pipeline, its tasks, the progress, the ledger and the cost read it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

StageName = Literal[
    "ingest", "recall", "wait", "assess", "enhance", "validate", "fallback", "variants", "publish", "record"
]
"""The stages in their order. `wait`: another worker computes the same page."""


@dataclass(frozen=True)
class TaskOptions:
    """How a stage runs as a task of an orchestrator."""

    name: str
    timeout_seconds: int
    """The task fails after this time."""
    run_name: str | None = None
    """Name of a run, a template over the arguments; the task's name if None."""
    identity: Callable[[Mapping[str, Any]], Any] | None = None
    """Returns the part of the arguments, by name, that decides the result. Results are cached by it; None: not cached."""


@dataclass(frozen=True)
class Stage:
    """One row of the table."""

    begin_percent: float
    """Progress of the page, in [0, 100], when the stage begins: about its share of the time on a CPU."""
    end_percent: float
    task: TaskOptions | None = None
    """None: the stage is not a task; it runs where the pipeline runs."""
    has_ledger_column: bool = False
    """The ledger has a column `seconds_{name}`."""
    uses_device: bool = False
    """Its seconds are charged at the price of the device."""
    reports_itself: bool = False
    """The task reports its progress itself, more often than at the begin and the end."""


STAGES: Final[Mapping[StageName, Stage]] = {
    "ingest": Stage(
        0, 6, TaskOptions("ingest", 600), has_ledger_column=True
    ),  # an address can change: no cache
    "recall": Stage(6, 7),
    "wait": Stage(7, 7),
    "assess": Stage(
        7,
        10,
        TaskOptions("assess", 300, identity=lambda given: given["page"].content_key),
        has_ledger_column=True,
    ),
    "enhance": Stage(
        10,
        72,
        TaskOptions(
            "enhance",
            3600,
            "enhance with {plan.model}",
            lambda given: [given["page"].content_key, given["plan"].model_dump()],
        ),
        has_ledger_column=True,
        uses_device=True,
        reports_itself=True,
    ),
    "validate": Stage(
        72,
        78,
        TaskOptions(
            "validate",
            300,
            "validate {attempt.plan.model}",
            lambda given: [given["page"].content_key, given["attempt"].model_dump()],
        ),
        has_ledger_column=True,
    ),
    "fallback": Stage(72, 78, has_ledger_column=True, uses_device=True),
    "variants": Stage(
        78,
        92,
        TaskOptions(
            "make-variants",
            600,
            "make variants",
            lambda given: [
                given["master"].sha256,
                [spec.model_dump() for spec in given["specs"]],
            ],
        ),
        has_ledger_column=True,
    ),
    "publish": Stage(92, 97, TaskOptions("publish", 600)),  # not cached: it must deliver each time
    "record": Stage(97, 99),
}


def page_percent(name: StageName, share: float) -> float:
    """Progress of a page in percent when `share`, in [0, 1], of a stage is done; clipped to the stage."""
    stage = STAGES[name]
    return round(
        stage.begin_percent + (stage.end_percent - stage.begin_percent) * min(max(share, 0.0), 1.0), 1
    )


def ledger_stages() -> tuple[StageName, ...]:
    """The stages whose seconds have a column in the ledger, in order."""
    return tuple(name for name, stage in STAGES.items() if stage.has_ledger_column)


def seconds_column(name: str) -> str:
    """The ledger's column for the seconds of a stage."""
    return f"seconds_{name}"
