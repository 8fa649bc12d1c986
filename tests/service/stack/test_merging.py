"""Which values provisioning takes from the release, and which from the server."""

from typing import Any

import pytest

from service.stack.merging import merge, record

OBJECTS = frozenset({"variables"})
OLD: dict[str, Any] = {"text": "old", "variables": {"command": "old", "env": {"A": "1"}}}
NEW: dict[str, Any] = {"text": "new", "variables": {"command": "new", "env": {"A": "1", "B": "2"}}}


@pytest.mark.parametrize(
    ("found", "expected", "kept"),
    [
        pytest.param(OLD, NEW, 0, id="unchanged by an operator: the release's values"),
        pytest.param({**OLD, "text": "mine"}, {**NEW, "text": "mine"}, 1, id="a changed field is kept"),
        pytest.param({**OLD, "text": "new"}, NEW, 0, id="changed to what the release wants"),
        pytest.param(
            {**OLD, "variables": {**OLD["variables"], "command": "mine"}},
            {"text": "new", "variables": {"command": "mine", "env": {"A": "1", "B": "2"}}},
            1,
            id="a changed key is kept, its neighbours are updated",
        ),
        pytest.param(
            {**OLD, "variables": {**OLD["variables"], "env": {"A": "1", "MINE": "3"}}},
            {"text": "new", "variables": {"command": "new", "env": {"A": "1", "B": "2", "MINE": "3"}}},
            1,
            id="an added key stays",
        ),
        pytest.param(
            {**OLD, "variables": {"command": "old", "env": {}}},
            {"text": "new", "variables": {"command": "new", "env": {"B": "2"}}},
            1,
            id="a removed key stays removed",
        ),
    ],
)
def test_what_an_operator_changed_is_kept(found: dict[str, Any], expected: dict[str, Any], kept: int) -> None:
    outcome = merge(NEW, found, record(OLD, nested=OBJECTS), nested=OBJECTS)
    values = {**outcome.values, "variables": {**outcome.values["variables"]}}
    values["variables"].setdefault("env", {})
    assert values == expected
    assert len(outcome.kept) == kept
    again = merge(NEW, outcome.values, outcome.written, nested=OBJECTS)
    assert not again.changed and len(again.kept) == kept, "a second time changes nothing"


def test_a_value_that_an_operator_put_back_is_updated_again() -> None:
    changed = merge({"a": 1}, {"a": 2}, record({"a": 1}))
    back = merge({"a": 3}, {"a": 1}, changed.written)
    assert back.values == {"a": 3}


def test_without_a_record_differing_values_are_kept_and_missing_ones_created() -> None:
    outcome = merge({"a": 1, "b": 2}, {"a": 9}, {})
    assert outcome.values == {"a": 9, "b": 2}
    assert outcome.kept == ("a is 9; this release has 1",)


def test_what_a_release_no_longer_has_is_removed_unless_an_operator_changed_it() -> None:
    written = record({"v": {"old": 1, "mine": 1}}, nested=frozenset({"v"}))
    outcome = merge({"v": {}}, {"v": {"old": 1, "mine": 2}}, written, nested=frozenset({"v"}))
    assert outcome.values == {"v": {"mine": 2}}


def test_overwrite_takes_the_release() -> None:
    outcome = merge({"a": 1}, {"a": 9}, record({"a": 1}), overwrite=True)
    assert (outcome.values, outcome.updated) == ({"a": 1}, ("a",))


def test_values_of_environments_are_not_printed() -> None:
    outcome = merge({"v": {"env": {"K": "a"}}}, {"v": {"env": {"K": "secret"}}}, {}, nested=frozenset({"v"}))
    assert outcome.kept == ("v/env/K was changed by an operator",)
