"""Prometheus metrics: the responses of the gateway, the pages that the events of runs report, the state of the service."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from deployments.names import Priority
from panelworks.domain.formats import PRESETS
from panelworks.domain.plan import Route
from panelworks.domain.result import PageResult
from panelworks.errors import Fault
from service.gateway.prefect_readings import Backlog
from service.supervisor.leadership import CallbackCounters

_SCORE_BUCKETS: Final = [share / 10 for share in range(1, 11)]
_SECOND_BUCKETS: Final = (0.005, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)
_TOOLS: Final = frozenset({*PRESETS, "prefect", "cli", "event", "http", "library", "upload", "pages"})


@dataclass(frozen=True)
class ServiceState:
    """What a gateway last read about the whole service."""

    components: Mapping[str, str] = field(default_factory=dict)
    """`up`, `down`, `paused` or `unknown`, as `/api/health` reports them."""
    workers: Mapping[str, int] = field(default_factory=dict)
    """By pool."""
    backlogs: Mapping[Priority, Backlog] = field(default_factory=dict)
    """By queue."""
    callbacks: CallbackCounters | None = None
    """Those of the supervisor that leads; None until one has recorded any."""


class _ServiceCollector(Collector):
    """Exports the state of the service as one: a scrape never finds a part of it missing while it is updated."""

    def __init__(self) -> None:
        self.state = ServiceState()

    def collect(self) -> Iterator[Metric]:
        state = self.state
        components = GaugeMetricFamily(
            "panelworks_component_up",
            "Whether a component works, as in /api/health: 1 up, 0 down or paused, no value while it is unknown.",
            labels=["component"],
        )
        for component, condition in state.components.items():
            if condition != "unknown":
                components.add_metric([component], condition == "up")
        yield components
        workers = GaugeMetricFamily(
            "panelworks_workers_online", "Workers that poll each work pool.", labels=["pool"]
        )
        for pool, count in state.workers.items():
            workers.add_metric([pool], count)
        yield workers
        depth = GaugeMetricFamily("panelworks_queue_depth", "Runs that wait in each queue.", labels=["queue"])
        oldest = GaugeMetricFamily(
            "panelworks_queue_oldest_seconds",
            "Seconds for which the oldest run of each queue has waited; 0 when none waits.",
            labels=["queue"],
        )
        for queue, backlog in state.backlogs.items():
            depth.add_metric([queue], backlog.runs)
            oldest.add_metric([queue], backlog.oldest_seconds)
        yield depth
        yield oldest
        attempts = CounterMetricFamily(
            "panelworks_callbacks",
            "Attempts to deliver a callback by outcome: delivered, retried, failed.",
            labels=["outcome"],
        )
        pending = GaugeMetricFamily("panelworks_callbacks_pending", "Callbacks that wait for their delivery.")
        if state.callbacks is not None:
            for outcome in ("delivered", "retried", "failed"):
                attempts.add_metric([outcome], getattr(state.callbacks, outcome))
            pending.add_metric([], state.callbacks.pending)
        yield attempts
        yield pending


class _GpuMetrics:
    """What networks took of GPUs, and its cost."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._memory = Gauge(
            "panelworks_gpu_memory_bytes",
            "Peak GPU memory during the last page.",
            ["pool"],
            registry=registry,
        )
        self._memory_total = Gauge(
            "panelworks_gpu_memory_total_bytes", "Total memory of that GPU.", ["pool"], registry=registry
        )
        self._utilisation = Histogram(
            "panelworks_gpu_utilisation", "Share of the time of a page's networks in which the GPU computed.",
            ["pool"], buckets=_SCORE_BUCKETS, registry=registry,
        )  # fmt: skip
        self._seconds = Counter(
            "panelworks_gpu_seconds", "Seconds for which networks held a device.", ["pool", "model"],
            registry=registry,
        )  # fmt: skip
        self._cost = Counter(
            "panelworks_cost_usd", "US dollars of these seconds.", ["pool", "model"], registry=registry
        )

    def observe(self, result: PageResult) -> None:
        """Count a page that was computed."""
        if result.cost is not None and result.cost.gpu_seconds:
            labels = (result.cost.pool or "none", result.model or "none")
            self._seconds.labels(*labels).inc(result.cost.gpu_seconds)
            self._cost.labels(*labels).inc(result.cost.usd or 0.0)
        if result.gpu is not None:
            pool = (result.cost.pool if result.cost else None) or "none"
            self._memory.labels(pool).set(result.gpu.memory_bytes)
            self._memory_total.labels(pool).set(result.gpu.memory_total_bytes)
            if result.gpu.utilisation is not None:
                self._utilisation.labels(pool).observe(result.gpu.utilisation)


class Metrics:
    """The metrics of one gateway."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.pages = Counter("panelworks_pages", "Pages by route.", ["route", "cached"], registry=registry)
        self.scores = Histogram(
            "panelworks_page_score",
            "Overall quality score of pages.",
            ["when"],
            buckets=_SCORE_BUCKETS,
            registry=registry,
        )
        self.stages = Histogram(
            "panelworks_stage_seconds",
            "Seconds per stage.",
            ["stage"],
            buckets=_SECOND_BUCKETS,
            registry=registry,
        )
        self.cache = Counter(
            "panelworks_cache_requests",
            "Lookups in the result cache: hit, miss.",
            ["answer"],
            registry=registry,
        )
        self.outages = Counter(
            "panelworks_cache_outages", "Times the result cache was unavailable.", registry=registry
        )
        self._gpu = _GpuMetrics(registry)
        self.spent_today = Gauge(
            "panelworks_spent_today_usd",
            "US dollars that the pages of this day (UTC) cost.",
            registry=registry,
        )
        self.budget = Gauge(
            "panelworks_budget_per_day_usd", "US dollars that the pages of a day may cost.", registry=registry
        )
        self.service = _ServiceCollector()
        registry.register(self.service)
        self.success = Counter("generation_success", "Pages delivered.", ["tool"], registry=registry)
        self.failure = Counter(
            "generation_failure",
            "Pages not delivered, by the code of the error and by who must act: input, temporary, service.",
            ["code", "fault"],
            registry=registry,
        )
        self.requests = Counter(
            "panelworks_http_requests",
            "Responses of the gateway.",
            ["method", "route", "status"],
            registry=registry,
        )
        self.latency = Histogram(
            "panelworks_http_seconds",
            "Seconds until the response.",
            ["route"],
            buckets=_SECOND_BUCKETS,
            registry=registry,
        )
        self._start_at_zero()

    def _start_at_zero(self) -> None:
        """Export counters before their first increment: the rate of a counter that appears as 1 misses that 1."""
        for tool in _TOOLS:
            self.success.labels(tool)
        for route in get_args(Route):
            for cached in ("false", "true"):
                self.pages.labels(route, cached)
        for answer in ("hit", "miss"):
            self.cache.labels(answer)

    def count_response(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a response of the gateway."""
        label = method if method in ("GET", "POST", "DELETE", "OPTIONS", "HEAD") else "other"
        self.requests.labels(label, route, str(status)).inc()
        self.latency.labels(route).observe(seconds)

    def count_ended(self, result: PageResult, tool: str) -> None:
        """Count a page that has ended."""
        if result.error is not None:
            self.count_failed(result.error.code, result.error.fault or "service")
            return
        self.success.labels(tool if tool in _TOOLS else "other").inc()
        self.pages.labels(result.route or "none", str(result.cached).lower()).inc()
        self.cache.labels("hit" if result.cached else "miss").inc()
        if result.quality is not None:
            self.scores.labels("before").observe(result.quality.before.overall)
            self.scores.labels("after").observe(result.quality.after.overall)
        self._gpu.observe(result)
        for stage, seconds in result.seconds.items():
            self.stages.labels(stage).observe(seconds)

    def count_recalled(self, result: PageResult, tool: str) -> None:
        """Count a page whose known result was returned: nothing was computed, and no run ended."""
        self.success.labels(tool if tool in _TOOLS else "other").inc()
        self.pages.labels(result.route or "none", "true").inc()
        self.cache.labels("hit").inc()

    def count_failed(self, code: str, fault: Fault) -> None:
        """Count a page that was not delivered."""
        self.failure.labels(code, fault).inc()

    def render(self) -> bytes:
        """All metrics in the format of Prometheus."""
        return generate_latest(self.registry)
