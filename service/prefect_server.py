"""Where the Prefect server is, as Prefect's own settings say: environment, profile, `prefect.toml`, `.env`."""

import os
import sys
from pathlib import Path
from typing import Final

from panelworks.errors import Misconfigured, PanelworksError, Transient
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


def reach_server() -> str:
    """The API's address, after one request to it: a command that needs the server fails before it begins anything.

    Raises:
        Misconfigured: `no_server`, `prefect_refused`, `not_prefect`.
        Transient: `prefect_away`.
    """
    url = require_server()
    from prefect.client.orchestration import get_client

    try:
        with get_client(sync_client=True) as client:
            client.read_work_pools(limit=1)
    except ValueError as error:  # not JSON, or not a list of work pools
        raise not_prefect(url) from error
    except Exception as error:
        raise (server_error(error) or error) from error
    return url


def credentials() -> tuple[str, str] | None:
    """User and password of the auth string that Prefect's settings hold; None: they hold none."""
    from prefect.settings import get_current_settings

    secret = get_current_settings().api.auth_string
    user, _, password = (secret.get_secret_value() if secret else "").partition(":")
    return (user, password) if user else None


def server_error(error: Exception) -> PanelworksError | None:
    """What an exception of Prefect's client, or of a request to its server, means to whoever runs a command.

    None: it is another exception. httpx takes 0.1 s to import, so that commands which do not need it do not pay for it.
    """
    if "httpx" not in sys.modules:
        return None
    import httpx

    if not isinstance(error, httpx.HTTPError):
        return None
    url = server_url() or "the configured address"
    if not isinstance(error, httpx.HTTPStatusError):
        cause = str(error) or type(error).__name__
        return Transient("prefect_away", f"The Prefect server at {url} is unavailable: {cause}.")
    status = error.response.status_code
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return Misconfigured(
            "prefect_refused",
            f"The Prefect server at {url} refuses access ({status}): set PREFECT_API_AUTH_STRING or PREFECT_API_KEY.",
        )
    if status == httpx.codes.NOT_FOUND:
        return not_prefect(url)
    return Transient("prefect_away", f"The Prefect server at {url} failed: it answered {status}.")


def not_prefect(url: str) -> Misconfigured:
    """The error for an address where something else than Prefect's API answers: often its UI, which answers everything."""
    return Misconfigured(
        "not_prefect", f"{url} is not the API of a Prefect server; PREFECT_API_URL usually ends in /api."
    )


def _may_be_in_files() -> bool:
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect").expanduser()
    profiles = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    return profiles.exists() or any(_holds(Path(name), text) for name, text in _FILES)


def _holds(path: Path, text: str) -> bool:
    try:
        return text in path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
