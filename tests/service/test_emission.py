"""Events that are emitted from here can be delivered."""

from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from panelworks.errors import Rejected, Transient
from service.emission import MAX_SOURCE_CHARACTERS, emit_generated


@pytest.mark.parametrize(
    "given",
    [
        {"metadata": {"a": {"__prefect_kind": "jinja"}}},
        {"metadata": {"a": 2**64}},
        {"metadata": {"a": float("nan")}},
        {"metadata": {"a": "\ud800"}},
        {"metadata": {"a": "x" * 40_000}},
        {"metadata": {"a": object()}},
        {"panel_id": "\x00"},
        {"tool": "\udfff"},
    ],
)
def test_what_could_not_be_delivered_is_not_emitted(given: dict[str, Any]) -> None:
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        with pytest.raises(Rejected):
            emit_generated("https://example.com/a.png", **given)
        with pytest.raises(Transient):
            emit_generated("https://example.com/a.png", metadata={"a": [1, None, "ä"]})


def test_a_picture_that_is_too_large_for_a_parameter_is_refused() -> None:
    """Before, the event was accepted, and its run failed before it could record why."""
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(Rejected, match="post larger pictures to the gateway"),
    ):
        emit_generated("data:image/png;base64," + "A" * MAX_SOURCE_CHARACTERS)
