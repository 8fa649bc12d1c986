"""Prefect's clients share a TLS context; nobody else does."""

import os
import shutil
import ssl
from pathlib import Path
from typing import Any

import certifi
import pytest
from prefect.client import orchestration
from prefect.client.orchestration import PrefectClient, SyncPrefectClient
from prefect.settings import PREFECT_API_SSL_CERT_FILE, temporary_settings

from deployments.warm import certificates
from deployments.warm.certificates import share_tls_context


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The files of certificates that were read since Prefect's clients share."""
    read: list[str] = []
    original = ssl.create_default_context

    def create(cafile: str | None = None) -> ssl.SSLContext:
        read.append(str(cafile))
        return original(cafile=cafile)

    monkeypatch.setattr(ssl, "create_default_context", create)
    monkeypatch.setattr(orchestration, "ssl", ssl)
    certificates._of.cache_clear()
    share_tls_context()
    return read


@pytest.mark.parametrize("kind", [PrefectClient, SyncPrefectClient])
def test_a_file_is_read_once_until_it_changes(
    read: list[str], tmp_path: Path, kind: type[PrefectClient] | type[SyncPrefectClient]
) -> None:
    file = shutil.copy(certifi.where(), tmp_path / "certificates.pem")
    with temporary_settings({PREFECT_API_SSL_CERT_FILE: str(file)}):
        for _ in range(3):
            kind("http://127.0.0.1:9/api")
        assert read.count(str(file)) == 1
        os.utime(file, (1, 1))
        kind("http://127.0.0.1:9/api")
        assert read.count(str(file)) == 2


@pytest.mark.usefixtures("read")
def test_what_others_make_and_change_is_their_own() -> None:
    prefects: Any = vars(orchestration)["ssl"]
    theirs = prefects.create_default_context(cafile=certifi.where())
    assert theirs is prefects.create_default_context(cafile=certifi.where())
    assert theirs is not ssl.create_default_context(cafile=certifi.where())
    unverified = prefects.create_default_context()
    assert unverified is not prefects.create_default_context(), "Prefect switches its checks off"
