"""The pool's children: their environment, and how the scope of a run ends it."""

import signal
import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import certifi
import pytest
from prefect.client.orchestration import PrefectClient
from prefect.settings import PREFECT_API_SSL_CERT_FILE, temporary_settings

from deployments.warm.pool import (
    NO_AUTHORITY_FILE,
    RunInChild,
    RunScope,
    certificates_environment,
    restore_certificates,
)

HTTP, HTTPS = "http://127.0.0.1:4200/api", "https://prefect.example/api"
SYSTEM_FILE = "/etc/ssl/certs/ca-certificates.crt"
OURS = {"PREFECT_API_SSL_CERT_FILE": str(NO_AUTHORITY_FILE)}


@pytest.mark.parametrize(
    ("url", "file", "expected"),
    [
        (HTTP, None, OURS),
        (HTTP, SYSTEM_FILE, OURS),
        (HTTP, "/ca.pem", {}),
        (HTTPS, None, {}),
        (HTTPS, SYSTEM_FILE, {}),
        (HTTPS, "/ca.pem", {}),
        (None, None, {}),
    ],
)
def test_only_an_api_without_tls_gets_the_short_list(
    url: str | None, file: str | None, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", SYSTEM_FILE)
    assert certificates_environment(url, file) == expected


def test_the_short_list_trusts_no_known_authority() -> None:
    context = ssl.create_default_context(cafile=str(NO_AUTHORITY_FILE))
    assert [one["subject"] for one in context.get_ca_certs()] == [
        ((("commonName", "No certificate authority"),),)
    ]


def test_prefect_reads_the_list_of_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []
    original = ssl.create_default_context

    def create_default_context(**named: Any) -> ssl.SSLContext:
        read.append(named)
        return original(**named)

    monkeypatch.setattr(ssl, "create_default_context", create_default_context)
    with temporary_settings({PREFECT_API_SSL_CERT_FILE: str(NO_AUTHORITY_FILE)}):
        PrefectClient(HTTP)
    assert read == [{"cafile": str(NO_AUTHORITY_FILE)}]


@pytest.mark.parametrize(
    ("url", "file", "expected"),
    [
        (HTTP, str(NO_AUTHORITY_FILE), str(NO_AUTHORITY_FILE)),
        (HTTPS, str(NO_AUTHORITY_FILE), certifi.where()),
        (HTTPS, "/ca.pem", "/ca.pem"),
        (None, None, None),
    ],
)
def test_a_run_that_calls_its_api_with_tls_gets_the_usual_list(
    url: str | None, file: str | None, expected: str | None
) -> None:
    environment = {"PREFECT_API_URL": url, "PREFECT_API_SSL_CERT_FILE": file}
    restore_certificates(environment)
    assert environment == {"PREFECT_API_URL": url, "PREFECT_API_SSL_CERT_FILE": expected}


def test_a_run_that_calls_its_api_with_tls_gets_the_list_of_the_system() -> None:
    environment = {"PREFECT_API_URL": HTTPS, "SSL_CERT_FILE": SYSTEM_FILE, **OURS}
    restore_certificates(environment)
    assert environment["PREFECT_API_SSL_CERT_FILE"] == SYSTEM_FILE


def test_an_ended_run_is_not_signalled(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr("os.kill", lambda pid, number: sent.append((pid, number)))
    of_child: Any = SimpleNamespace(pid=123)
    run = RunInChild(of_child)
    scope = RunScope(run)
    scope.graceful_kill(run.pid)
    assert sent == [(123, signal.SIGTERM)]
    run.end(0)
    run.end(1)
    assert run.returncode == 0 and not scope.is_alive(run.pid)
    with pytest.raises(ProcessLookupError):
        scope.graceful_kill(run.pid)
    scope.hard_kill(run.pid)
    assert len(sent) == 1


def test_the_list_is_part_of_the_package() -> None:
    assert Path(NO_AUTHORITY_FILE).is_file()
