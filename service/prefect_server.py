"""Where the Prefect server is, as Prefect's own settings say: environment, profile, `prefect.toml`, `.env`."""

import os
import sys
from pathlib import Path
from typing import Final

from panelworks.errors import Misconfigured
from panelworks.settings import get_settings
from service.server_access import supply_auth_string

_VARIABLE: Final = "PREFECT_API_URL"
_FILES: Final = (("prefect.toml", "api"), ("pyproject.toml", "[tool.prefect"), (".env", "PREFECT_"))
"""Files of the working folder that Prefect reads, and text without which they say nothing of the server."""


def server_url() -> str | None:
    """The API's address; None when nothing configures one.

    If it is the server of `panelworks up`, its auth string goes into this process's environment.
    Prefect is imported only when one of its files could hold the address: it takes a second.
    """
    if not (os.environ.get(_VARIABLE) or "prefect.settings" in sys.modules or _may_be_in_files()):
        return None
    from prefect.settings import PREFECT_API_URL

    url = PREFECT_API_URL.value() or None
    if url is not None:
        supply_auth_string(get_settings().cache_dir, url)
    return url


def require_server() -> str:
    """The API's address.

    Raises:
        Misconfigured: `no_server`.
    """
    url = server_url()
    if url is None:
        raise Misconfigured(
            "no_server",
            "No Prefect server is configured: set PREFECT_API_URL, run 'prefect config set PREFECT_API_URL=...',"
            " or start one with 'panelworks up'.",
        )
    return url


def _may_be_in_files() -> bool:
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect").expanduser()
    profiles = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    return profiles.exists() or any(_holds(Path(name), text) for name, text in _FILES)


def _holds(path: Path, text: str) -> bool:
    try:
        return text in path.read_text(errors="replace")
    except OSError:
        return False
