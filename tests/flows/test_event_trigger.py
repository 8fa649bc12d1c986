"""The triggers of prefect.yaml on a real server: Prefect interprets nothing in an event."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.utilities.callables import parameter_schema

from flows.enhance_page import enhance_page
from panelworks.domain.request import read_generated_panel
from panelworks.errors import Rejected
from tests.servers import emit_event, prefect_server, request_api, until, wait_for_triggers

ROOT = Path(__file__).parents[2]
INSTRUCTION = {"__prefect_kind": "jinja", "template": "{{ 6 * 7 }}"}
VARIABLE = {"__prefect_kind": "workspace_variable", "variable_name": "secret"}
EVENT = "comic.panel.generated"


@pytest.fixture(scope="module")
def triggers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A server whose automation starts the page flow with the parameters of prefect.yaml."""
    with prefect_server(tmp_path_factory.mktemp("triggers")):
        request_api("POST", "/variables/", {"name": "secret", "value": "hidden"})
        flow_id = request_api("POST", "/flows/", {"name": enhance_page.name})["id"]
        deployment = request_api(
            "POST",
            "/deployments/",
            {
                "name": "on-panel-generated",
                "flow_id": flow_id,
                "enforce_parameter_schema": True,
                "parameter_openapi_schema": parameter_schema(enhance_page).model_dump_for_openapi(),
            },
        )
        given = yaml.safe_load((ROOT / "prefect.yaml").read_text())["definitions"]["page_of_event"]
        request_api(
            "POST",
            "/automations/",
            {
                "name": "page",
                "trigger": {"type": "event", "expect": [EVENT], "posture": "Reactive", "threshold": 1},
                "actions": [
                    {
                        "type": "run-deployment",
                        "source": "selected",
                        "deployment_id": deployment["id"],
                        "parameters": given,
                    }
                ],
            },
        )
        wait_for_triggers()
        yield


def emitted(payload: dict[str, Any]) -> str:
    return emit_event(
        {"event": EVENT, "resource": {"prefect.resource.id": f"comic.{uuid.uuid4()}"}, "payload": payload}
    )


def run_of(job_id: str) -> dict[str, Any]:
    def found() -> list[dict[str, Any]]:
        runs = request_api("POST", "/flow_runs/filter", {"limit": 200})
        return [run["parameters"] for run in runs if run["parameters"].get("job_id") == job_id]

    until(lambda: bool(found()), 60)
    return found()[0]


HOSTILE: dict[str, Any] = {
    "template in metadata": {"metadata": {"a": [{"b": INSTRUCTION}]}},
    "variable in metadata": {"metadata": VARIABLE},
    "template as options": {"options": INSTRUCTION},
    "template in options": {"options": {"model": INSTRUCTION}},
    "template as force": {"force": INSTRUCTION},
    "template as tool": {"tool": INSTRUCTION},
    "template as callback": {"callback": VARIABLE},
    "65 bits": {"metadata": {"a": 2**70}},
    "4,000 digits": {"metadata": {"a": int("9" * 4000)}},
    "NUL": {"options": {"model": "\x00"}},
    "another shape": {"options": "as large as you can"},
    "no object": {"metadata": [1]},
    "half of a megabyte": {"metadata": {"a": "x" * 100_000}},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_events_are_reported_and_never_interpreted(triggers: None, name: str) -> None:
    job_id = f"job-{uuid.uuid4()}"
    emitted({"source": "data:,x", "job_id": job_id, **HOSTILE[name]})
    parameters = run_of(job_id)
    assert set(parameters) == {"source", "job_id", "event"}
    assert "hidden" not in parameters["event"] and '"42"' not in parameters["event"]
    with pytest.raises(Rejected) as caught:
        read_generated_panel(parameters["event"])
    assert caught.value.code == "refused_event"


@pytest.mark.parametrize("field", ["source", "job_id"])
def test_an_object_instead_of_a_text_is_no_template(triggers: None, field: str) -> None:
    identity = emitted({"source": "data:,x", "panel_id": "p", field: {**INSTRUCTION, "mark": "here"}})
    if field == "source":
        assert "6 * 7" in run_of(identity)["source"]
    else:
        until(lambda: any("6 * 7" in str(run["parameters"]["job_id"]) for run in runs()))


def runs() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = request_api("POST", "/flow_runs/filter", {"limit": 200})
    return found


def test_what_an_event_asks_for_arrives(triggers: None) -> None:
    payload = {
        "source": "https://example.com/ä.png",
        "job_id": "good",
        "tool": "dall-e",
        "panel_id": 7,
        "options": {
            "preset": "dall-e",
            "scale": 3,
            "inpaint": [{"left": 1, "top": 2, "width": 3, "height": 4}],
        },
        "force": True,
        "metadata": {"a": {"b": [1, 2.5, None, "<&'\"{{ x }} ペ"]}},
    }
    emitted(payload)
    parameters = run_of("good")
    panel = read_generated_panel(parameters["event"])
    assert parameters["source"] == payload["source"]
    assert panel.metadata == payload["metadata"] and panel.force and panel.panel_id == "7"
    assert panel.options.model_dump(exclude_defaults=True, mode="json") == payload["options"]
    assert (panel.origin.tool, panel.origin.entry_point) == ("dall-e", "event")


def test_an_event_without_a_source_makes_no_run(triggers: None) -> None:
    identity = emitted({"panel_id": "p"})

    def refused() -> bool:
        wanted = {"event": {"name": ["prefect.automation.action.failed"]}}
        found = request_api("POST", "/events/filter", {"filter": wanted, "limit": 50})["events"]
        return any(identity in json.dumps(one["related"]) for one in found)

    until(refused, 60)


def test_every_list_still_works_afterwards(triggers: None) -> None:
    assert request_api("POST", "/flow_runs/filter", {"limit": 200})
    assert request_api("POST", "/events/filter", {"filter": {}, "limit": 50})["events"]
