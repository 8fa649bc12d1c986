"""`panelworks schedule backfill` against a real server."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from panelworks.cli.app import build_app
from panelworks.errors import Misconfigured
from service.scheduling import cron_schedule
from tests.service.stack.test_provision import provision_now

GOOD = (
    "--archive",
    "s3://studio/archive",
    "--out",
    "s3://studio/out",
    "--cron",
    "0 22 * * *",
    "--until",
    "06:00",
)


def schedule(*arguments: str) -> str:
    """Run the command; gives what it prints."""
    done = CliRunner().invoke(build_app(), ["schedule", "backfill", *arguments])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def listed() -> dict[str, Any]:
    rows = [json.loads(line) for line in schedule("--list", "--json").splitlines()]
    return {row["name"]: row for row in rows}


@pytest.mark.usefixtures("fast_server")
def test_a_schedule_is_set_kept_by_provisioning_changed_and_removed() -> None:
    provision_now()
    assert "nightly" in schedule(*GOOD)
    wanted = {
        "name": "nightly",
        "when": '"0 22 * * *" UTC',
        "active": True,
        "parameters": {"archive": "s3://studio/archive", "out": "s3://studio/out", "until": "06:00"},
    }
    assert listed()["nightly"] == wanted
    provision_now()
    assert listed()["nightly"] == wanted

    schedule(*GOOD, "--name", "weekly", "--cron", "0 3 * * 6", "--timezone", "Europe/Berlin")
    schedule(*GOOD, "--cron", "30 23 * * *")
    provision_now()
    assert {name: row["when"] for name, row in listed().items()} == {
        "nightly": '"30 23 * * *" UTC',
        "weekly": '"0 3 * * 6" Europe/Berlin',
    }

    schedule("--remove")
    provision_now()
    assert list(listed()) == ["weekly"]
    schedule("--remove", "--name", "weekly")
    assert schedule("--list") == "The backfill has no schedule.\n"
    with pytest.raises(Misconfigured, match="no schedule 'weekly'"):
        schedule("--remove", "--name", "weekly")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--archive", "a", "--out", "b"), "missing_option"),
        ((*GOOD, "--cron", "every night"), "bad_cron"),
        ((*GOOD, "--cron", "0 25 * * *"), "bad_cron"),
        ((*GOOD, "--cron", "0 22 * *"), "bad_cron"),
        ((*GOOD, "--timezone", "Mars/Olympus"), "bad_timezone"),
        ((*GOOD, "--until", "six"), "bad_time"),
        (("--list", "--remove"), "bad_options"),
        ((*GOOD, "--list"), "bad_options"),
    ],
)
def test_what_cannot_be_scheduled_is_refused(
    arguments: tuple[str, ...], code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    with pytest.raises(Misconfigured) as refused:
        schedule(*arguments)
    assert refused.value.code == code


def test_a_time_zone_is_utc_unless_it_is_named() -> None:
    assert cron_schedule("0 22 * * *", None).timezone == "UTC"
