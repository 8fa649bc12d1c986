"""Requests cross each boundary unchanged: as parameters of a run and as the event of a panel."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from jinja2.sandbox import ImmutableSandboxedEnvironment

from panelworks.domain.books import BookRequest
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.request import EntryPoint, Origin, PageRequest
from panelworks.errors import Rejected
from tests.requests import book_requests, page_requests

ROOT = Path(__file__).parents[3]


def parameters_of_event(payload: dict[str, Any]) -> dict[str, Any]:
    """The parameters that an automation of prefect.yaml makes of an event."""
    environment = ImmutableSandboxedEnvironment()
    (template,) = (
        one["triggers"][0]["parameters"]
        for one in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
        if one["name"] == "on-panel-generated"
    )
    event = {"id": "event-id", "payload": json.loads(json.dumps(payload))}
    return {
        name: environment.from_string(value["template"]).render(event=event)
        for name, value in template.items()
    }


@given(page_requests())
def test_a_page_request_survives_the_parameters_of_a_run(request: PageRequest) -> None:
    given = json.loads(json.dumps(request.to_parameters()))
    assert PageRequest.from_parameters(given, job_id="other", out="other") == request


@given(page_requests("event", "default", with_owner=False))
def test_a_page_request_survives_an_event_and_its_automation(request: PageRequest) -> None:
    parameters = parameters_of_event(request.to_event())
    assert PageRequest.from_parameters(parameters, job_id="other", out="default") == request


@given(book_requests())
def test_a_book_request_survives_the_parameters_of_a_run(request: BookRequest) -> None:
    assert BookRequest.from_parameters(json.loads(json.dumps(request.to_parameters()))) == request


def test_options_of_a_run_have_precedence_over_those_of_its_event() -> None:
    event = json.dumps({"options": {"preset": "sora", "scale": 4}, "force": True, "tool": "generator"})
    given = {"source": "page.png", "options": EnhanceOptions(scale=3), "event": event}
    request = PageRequest.from_parameters(given, job_id="job", out="default")
    assert (request.options.preset, request.options.scale, request.force) == ("sora", 3, True)
    assert request.origin == Origin(tool="generator", entry_point="event")


@pytest.mark.parametrize("event", ["", "[]", '{"tool": 3}', '{"options": {"scale": 99}}'])
def test_an_unusable_event_is_refused(event: str) -> None:
    with pytest.raises(Rejected, match="cannot be used"):
        PageRequest.from_parameters({"source": "page.png", "event": event}, job_id="job", out="out")


@pytest.mark.parametrize("entry_point", ["operator", "event", "http"])
def test_requests_that_were_stored_before_a_field_was_renamed_are_read(entry_point: EntryPoint) -> None:
    assert Origin.model_validate({"tool": "old", "door": entry_point}).entry_point == entry_point
