"""The monitoring files: promtool accepts them, the alerts fire, and every metric that they name is exported."""

import json
import re
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from deployments.names import POOL, QUEUES
from panelworks.domain.result import Cost, ErrorInfo, GpuUse, PageResult, Quality
from service.gateway.metrics import Metrics, ServiceState
from service.gateway.prefect_readings import Backlog
from service.supervisor.leadership import CallbackCounters
from tests.outcomes import outcome

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deployments" / "monitoring"
RULES: list[dict[str, Any]] = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"][0]["rules"]
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
COMPONENTS = ("prefect", "scheduler", "events", "cache", "workers", "pools", "supervisor")
WORDS = {
    "and", "by", "histogram_quantile", "increase", "max", "min", "on", "or", "rate", "sum", "vector",
}  # fmt: skip
"""Functions and operators of the expressions. What is neither one of these nor a label is a metric."""
OF_PROMETHEUS = {"up": {"instance", "job"}}
"""What Prometheus adds to each scrape."""
Series = dict[str, str]


def expressions() -> list[str]:
    """Every expression of the alerts and of the dashboard."""
    queries = [target["expr"] for panel in PANELS for target in panel["targets"]]
    return [rule["expr"] for rule in RULES] + queries


def exported() -> dict[str, set[str]]:
    """The labels of each sample that a gateway exports once it has seen one of everything."""
    metrics = Metrics()
    metrics.service.state = ServiceState(
        components=dict.fromkeys(COMPONENTS, "up"),
        workers={POOL: 1},
        backlogs=dict.fromkeys(QUEUES, Backlog(runs=1, oldest_seconds=5)),
        callbacks=CallbackCounters(),
    )
    report = outcome().before
    page = PageResult(
        job_id="a", status="success", route="upscaled", quality=Quality(before=report, after=report), seconds={"enhance": 1.0},
        cost=Cost(pool=POOL, gpu_seconds=1.0, usd=0.1),
        gpu=GpuUse(name="a", memory_bytes=1, own_memory_bytes=1, memory_total_bytes=2, utilisation=0.5),
    )  # fmt: skip
    metrics.count_ended(page, "event")
    failed = ErrorInfo(code="s3_unavailable", message="x", fault="temporary")
    metrics.count_ended(PageResult(job_id="b", status="error", error=failed), "event")
    metrics.count_response("GET", "/api/health", 200, 0.01)
    samples: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            samples.setdefault(sample.name, set()).update(sample.labels, ("instance", "job"))
    return samples


def names_in(expression: str) -> tuple[set[str], set[str]]:
    """The metrics of an expression, and its labels in selectors and groupings."""
    bare = re.sub(r'"[^"]*"', "", expression)
    selectors = re.findall(r"\{([^}]*)\}", bare)
    groupings = re.findall(r"\b(?:by|on) \(([^)]*)\)", bare)
    labels = {name for group in (*selectors, *groupings) for name in re.findall(r"\w+", group)}
    rest = re.sub(r"\{[^}]*\}|\[[^]]*\]|\b(?:by|on) \([^)]*\)", "", bare)
    return set(re.findall(r"[a-zA-Z_]\w*", rest)) - WORDS, labels


def check_rules(expressions: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Let promtool parse expressions, as the rules of a file."""
    rules = [{"record": f"expression:{n}", "expr": one} for n, one in enumerate(expressions)]
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "expressions", "rules": rules}]}))
    return subprocess.run(["promtool", "check", "rules", str(path)], capture_output=True, text=True)


@pytest.mark.parametrize("expression", expressions())
def test_metrics_and_labels_of_expressions_are_exported(expression: str) -> None:
    known = exported() | OF_PROMETHEUS
    metrics, labels = names_in(expression)
    assert metrics
    assert metrics <= known.keys()
    assert labels <= set().union(*(known[name] for name in metrics))


def test_every_component_of_an_alert_is_one_of_the_health() -> None:
    named = {
        name
        for rule in RULES
        for value in re.findall(r'component="([^"]*)"', rule["expr"])
        for name in value.split("|")
    }
    assert named == set(COMPONENTS) - {"pools"}  # an operator paused them on purpose, or the budget did


def test_names_of_metrics_are_found() -> None:
    """The test above depends on this function."""
    expression = 'max by (queue) (rate(wrong_total{queue="a",other!~"b|c"}[5m])) > 120 or sum(wrong_too)'
    assert names_in(expression) == ({"wrong_total", "wrong_too"}, {"queue", "other"})


def test_promtool_accepts_the_rules_and_the_configuration(tmp_path: Path) -> None:
    for name in ("alerts.yaml", "prometheus.yaml"):
        (tmp_path / name).write_text((FOLDER / name).read_text())
    (tmp_path / "gateway-key").write_text("a key")
    command = ["promtool", "check", "config", str(tmp_path / "prometheus.yaml")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {len(RULES)} rules found" in done.stdout


def test_promtool_accepts_the_expressions_of_the_dashboard(tmp_path: Path) -> None:
    queries = [one.replace("$__rate_interval", "1m").replace("$route", ".*") for one in expressions()]
    assert not [one for one in queries if "$" in one]
    done = check_rules(queries, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert check_rules([*queries, "sum by (queue (panelworks_queue_depth)"], tmp_path).returncode != 0


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_alerts_say_what_is_wrong_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["for"]
    assert rule["annotations"].keys() == {"summary", "description"}
    for text in rule["annotations"].values():
        assert text.endswith(".")
    how_to = (ROOT / "docs" / "how-to" / "live.md").read_text()
    assert f"| `{rule['alert']}` | {rule['labels']['severity']} |" in how_to


def up(**components: str) -> Series:
    """The series of components, a value each minute."""
    return {f'panelworks_component_up{{component="{name}"}}': values for name, values in components.items()}


def pages(done: str, failed: str, fault: str = "temporary", instance: str = "a:8200") -> Series:
    """The counters of pages of a gateway."""
    success = f'generation_success_total{{tool="event",instance="{instance}"}}'
    failure = f'generation_failure_total{{code="a",fault="{fault}",instance="{instance}"}}'
    return {success: done, failure: failed}


def oldest(queue: str, values: str) -> Series:
    """The age of a queue."""
    return {f'panelworks_queue_oldest_seconds{{queue="{queue}"}}': values}


def budget(spent: str, limit: str) -> Series:
    """What is spent and what may be spent."""
    return {"panelworks_spent_today_usd": spent, "panelworks_budget_per_day_usd": limit}


HEALTHY: Series = {
    'up{job="panelworks",instance="a:8200"}': "1x90",
    **up(**dict.fromkeys(COMPONENTS, "1x90")),
    **{name: "0x90" for queue in QUEUES for name in oldest(queue, "")},
    **pages("0+5x90", "0x90"),
    **budget("0x90", "0x90"),
}
DOWN, SHORT = "1x10 0x80", "1x88 0x2"
"""A component that is down, and one that went down in the last minute before the end."""


class Case(NamedTuple):
    """Series with which an alert fires, and others with which none does."""

    fires: list[Series]
    quiet: list[Series]


CASES = {
    "PanelworksGatewayDown": Case(
        [{'up{job="panelworks",instance="a:8200"}': DOWN}],
        [{'up{job="panelworks",instance="a:8200"}': SHORT}, {'up{job="other",instance="a:8200"}': DOWN}],
    ),
    "PanelworksPrefectDown": Case([up(prefect=DOWN, scheduler=DOWN)], [up(prefect=SHORT, scheduler=SHORT)]),
    "PanelworksSchedulerDown": Case([up(scheduler=DOWN)], [up(scheduler=SHORT)]),
    "PanelworksNoWorker": Case([up(workers=DOWN)], [up(workers=SHORT), up(pools=DOWN)]),
    "PanelworksSupervisorDown": Case([up(supervisor=DOWN)], [up(supervisor=SHORT)]),
    "PanelworksQueueOld": Case(
        [oldest("interactive", "0+10x90"), oldest("events", "0+60x90")],
        [oldest("interactive", "119x90"), oldest("events", "599x90"), oldest("events", "0x88 900x2")],
    ),
    "PanelworksBackfillOld": Case(
        [oldest("backfill", "40000+60x90")], [oldest("backfill", "43000x90"), oldest("backfill", "0+60x90")]
    ),
    "PanelworksPagesFail": Case(
        [pages("0+5x90", "0+1x90"), pages("0x90", "0+1x90", "service")],
        [
            pages("0+50x90", "0+2x90"),  # 4 %
            pages("0+1x90", "0x80 4x10"),  # four pages, a fifth
            # Two gateways count the same pages.
            {**pages("0+1x90", "0x80 4x10"), **pages("0+1x90", "0x80 4x10", instance="b:8200")},
            pages("0+5x90", "0+1x90", "input"),
        ],
    ),
    "PanelworksInputRefused": Case(
        [pages("0+1x90", "0+3x90", "input")], [pages("0+3x90", "0+1x90", "input"), pages("0x90", "0x70 19x20", "input")]
    ),
    "PanelworksBudgetNearlySpent": Case([budget("1.7x90", "2x90")], [budget("1.5x90", "2x90")]),
    "PanelworksBudgetSpent": Case([budget("2.1x90", "2x90")], [budget("2.1x90", "0x90")]),
    "PanelworksCacheDown": Case([up(cache=DOWN)], [up(cache=SHORT)]),
    "PanelworksEventsLost": Case([up(events=DOWN)], [up(events=SHORT)]),
}  # fmt: skip


def unit_test(series: Series, fires: str | None) -> dict[str, Any]:
    """A unit test of promtool: after 90 minutes exactly this alert fires, or none."""
    wanted = [{"labels": f'{{alertname="{fires}"}}', "value": 1}] if fires else []
    given = {**HEALTHY, **series}
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in given.items()],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": "90m",
                "exp_samples": wanted,
            }
        ],
    }


@pytest.mark.parametrize("alert", CASES)
def test_alerts_fire_when_they_should(alert: str, tmp_path: Path) -> None:
    case = CASES[alert]
    tests = [unit_test(series, alert) for series in case.fires]
    tests += [unit_test(series, None) for series in case.quiet]
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump({"rule_files": [str(FOLDER / "alerts.yaml")], "tests": tests}))
    done = subprocess.run(["promtool", "test", "rules", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert case.fires
    assert case.quiet


def test_every_alert_has_a_case() -> None:
    assert {rule["alert"] for rule in RULES} == CASES.keys()


def test_the_dashboard_has_the_form_that_grafana_reads() -> None:
    assert DASHBOARD["schemaVersion"] >= 36
    assert DASHBOARD["uid"] == "panelworks"
    variables = {one["name"]: one["type"] for one in DASHBOARD["templating"]["list"]}
    assert variables == {"datasource": "datasource", "route": "query"}
    choice = re.fullmatch(
        r"label_values\((\w+)\{.*\}, (\w+)\)", DASHBOARD["templating"]["list"][1]["definition"]
    )
    assert choice
    assert choice[2] in exported()[choice[1]]
    ids = [panel["id"] for panel in PANELS]
    assert len(set(ids)) == len(ids)
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
    for panel in PANELS:
        assert panel["type"] in ("stat", "timeseries")
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        references = [target["refId"] for target in panel["targets"]]
        assert references and len(set(references)) == len(references)
        assert all(target["expr"] and target["legendFormat"] for target in panel["targets"])


def test_panels_lie_side_by_side_on_the_grid() -> None:
    cells = [
        {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        for at in (panel["gridPos"] for panel in PANELS)
    ]
    assert all(one.isdisjoint(other) for one, other in combinations(cells, 2))
    covered = set().union(*cells)
    assert {x for x, _ in covered} == set(range(24))
    assert len(covered) == 24 * (max(y for _, y in covered) + 1)  # no holes


def test_legends_name_labels_of_their_expressions() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            labels = names_in(target["expr"])[1]
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= labels, panel["title"]
