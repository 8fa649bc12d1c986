"""Figures for Prometheus: what the gateway answers, and what runs announce in their events."""

from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from panelworks.domain.formats import PRESETS
from panelworks.domain.result import PageResult
from service.supervisor.leadership import CallbackCounters

_SCORES: Final = [share / 10 for share in range(1, 11)]
_SECONDS: Final = (0.005, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)
_TOOLS: Final = frozenset({*PRESETS, "prefect", "cli", "event", "http", "library", "upload", "pages"})


class _SupervisorCollector(Collector):
    """The counters of the supervisor that leads, as every gateway reads them from its lease."""

    def __init__(self) -> None:
        self.callbacks: CallbackCounters | None = None
        """None until a supervisor has recorded any."""

    def collect(self) -> Iterator[Metric]:
        attempts = CounterMetricFamily(
            "panelworks_callbacks",
            "Attempts to deliver a callback by outcome: delivered, retried, failed.",
            labels=["outcome"],
        )
        pending = GaugeMetricFamily("panelworks_callbacks_pending", "Callbacks that wait for their delivery.")
        if self.callbacks is not None:
            for outcome in ("delivered", "retried", "failed"):
                attempts.add_metric([outcome], getattr(self.callbacks, outcome))
            pending.add_metric([], self.callbacks.pending)
        yield attempts
        yield pending


class Metrics:
    """The collectors of one gateway."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.pages = Counter(
            "panelworks_pages", "Pages by where they ended.", ["route", "cached"], registry=self.registry
        )
        self.scores = Histogram(
            "panelworks_page_score", "Overall score.", ["when"], buckets=_SCORES, registry=self.registry
        )
        self.stages = Histogram(
            "panelworks_stage_seconds",
            "Seconds per stage.",
            ["stage"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.cache = Counter(
            "panelworks_cache_requests", "Answers of the result cache.", ["answer"], registry=self.registry
        )
        self.outages = Counter(
            "panelworks_cache_outages", "Times the result cache was away.", registry=self.registry
        )
        self.depth = Gauge("panelworks_queue_depth", "Runs that wait.", ["queue"], registry=self.registry)
        self.gpu_memory = Gauge(
            "panelworks_gpu_memory_bytes",
            "GPU memory in use while the last page was drawn, at most.",
            ["pool"],
            registry=self.registry,
        )
        self.gpu_memory_total = Gauge(
            "panelworks_gpu_memory_total_bytes", "What that GPU has.", ["pool"], registry=self.registry
        )
        self.gpu_utilisation = Histogram(
            "panelworks_gpu_utilisation",
            "Share of the time in which the GPU computed while a page was drawn.",
            ["pool"],
            buckets=_SCORES,
            registry=self.registry,
        )
        self.gpu_seconds = Counter(
            "panelworks_gpu_seconds",
            "Seconds that networks held a device.",
            ["pool", "model"],
            registry=self.registry,
        )
        self.cost = Counter(
            "panelworks_cost_usd", "US dollars of these seconds.", ["pool", "model"], registry=self.registry
        )
        self.spent_today = Gauge(
            "panelworks_spent_today_usd", "US dollars that this day's pages cost.", registry=self.registry
        )
        self.budget = Gauge(
            "panelworks_budget_per_day_usd", "US dollars that they may cost.", registry=self.registry
        )
        self.supervisor = _SupervisorCollector()
        self.registry.register(self.supervisor)
        self.success = Counter("generation_success", "Pages delivered.", ["tool"], registry=self.registry)
        self.failure = Counter("generation_failure", "Pages not delivered.", ["code"], registry=self.registry)
        self.requests = Counter(
            "panelworks_http_requests",
            "Answers of the gateway.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.latency = Histogram(
            "panelworks_http_seconds",
            "Seconds to answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer of the gateway."""
        known = method if method in ("GET", "POST", "DELETE", "OPTIONS", "HEAD") else "other"
        self.requests.labels(known, route, str(status)).inc()
        self.latency.labels(route).observe(seconds)

    def ended(self, result: PageResult, tool: str) -> None:
        """Count a page that has ended."""
        if result.error is not None:
            self.failed(result.error.code)
            return
        self.success.labels(tool if tool in _TOOLS else "other").inc()
        self.pages.labels(result.route or "none", str(result.cached).lower()).inc()
        self.cache.labels("hit" if result.cached else "miss").inc()
        if result.quality is not None:
            self.scores.labels("before").observe(result.quality.before.overall)
            self.scores.labels("after").observe(result.quality.after.overall)
        if result.cost is not None and result.cost.gpu_seconds:
            spent_on = (result.cost.pool or "none", result.model or "none")
            self.gpu_seconds.labels(*spent_on).inc(result.cost.gpu_seconds)
            self.cost.labels(*spent_on).inc(result.cost.usd or 0.0)
        if result.gpu is not None:
            pool = (result.cost.pool if result.cost else None) or "none"
            self.gpu_memory.labels(pool).set(result.gpu.memory_bytes)
            self.gpu_memory_total.labels(pool).set(result.gpu.memory_total_bytes)
            if result.gpu.utilisation is not None:
                self.gpu_utilisation.labels(pool).observe(result.gpu.utilisation)
        for stage, seconds in result.seconds.items():
            self.stages.labels(stage).observe(seconds)

    def recalled(self, result: PageResult, tool: str) -> None:
        """Count a page that was answered with a known result: nothing was computed, no run ended."""
        self.success.labels(tool if tool in _TOOLS else "other").inc()
        self.pages.labels(result.route or "none", "true").inc()
        self.cache.labels("hit").inc()

    def failed(self, code: str) -> None:
        """Count a page that was not delivered."""
        self.failure.labels(code).inc()

    def text(self) -> bytes:
        """All figures in Prometheus' format."""
        return generate_latest(self.registry)
