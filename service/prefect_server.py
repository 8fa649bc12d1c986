"""The Prefect server that every command uses: its address and access, from Prefect's own settings, and its defaults."""

import os
import secrets
import sys
import tempfile
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from panelworks.errors import Misconfigured, PanelworksError, Transient
from panelworks.settings import Settings, get_settings

SERVER_AUTH: Final = "PREFECT_SERVER_API_AUTH_STRING"
"""Environment variable with the auth string that the server requires."""
CLIENT_AUTH: Final = "PREFECT_API_AUTH_STRING"
"""Environment variable with the auth string that workers, runs, gateway and commands send."""
_USER: Final = "panelworks"
_MAX_URLS: Final = 16
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_API_URL_VARIABLE: Final = "PREFECT_API_URL"
_SETTINGS_FILES: Final = (("prefect.toml", "api"), ("pyproject.toml", "[tool.prefect"), (".env", "PREFECT_"))
"""Files in the working folder that Prefect reads, and the text that each contains if it configures a server."""
_DEFAULTS: Final = {
    # The first start creates a database. This takes 10 s on a fast machine, and more than Prefect's limit of 20 s on
    # a busy one.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "panelworks",
    # The gateway logs outside of runs: Prefect would add a warning of four lines to each log line.
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}

JSON_LOGS: Final = {
    "PREFECT_LOGGING_FORMATTERS_JSON_CLASS": "panelworks.logs.JsonFormatter",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_FORMATTER": "json",
    "PREFECT_LOGGING_HANDLERS_DEBUG_FORMATTER": "json",
    "PREFECT_LOGGING_COLORS": "false",
}
"""Overrides of Prefect's logging configuration: its console handler writes our JSON lines."""


class ServerAccess:
    """The auth string of this installation and the addresses of the servers that require it, under `cache_dir`."""

    def __init__(self, cache_dir: Path) -> None:
        self._folder = cache_dir.absolute() / "server"
        self.path = self._folder / "auth-string"
        """The file with the auth string, mode 0600."""
        self._urls = self._folder / "api-urls"

    def read(self) -> str | None:
        """The auth string, or None if it does not exist yet.

        Raises:
            Misconfigured: `bad_auth_file`: the file cannot be read, other users can read it, or it does not contain
                `user:password`.
        """
        try:
            mode, text = self.path.stat().st_mode, self.path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Misconfigured("bad_auth_file", f"{self.path} cannot be read ({error.strerror}).") from error
        if mode & 0o077:
            raise Misconfigured(
                "bad_auth_file", f"Other users can read {self.path}; delete it, and a new one is created."
            )
        if ":" not in text:
            raise Misconfigured(
                "bad_auth_file",
                f"{self.path} does not contain user:password; delete it, and a new one is created.",
            )
        return text

    def create(self) -> tuple[str, bool]:
        """Create the auth string if it does not exist. Returns it, and whether this call created it.

        Raises:
            Misconfigured: `bad_auth_file`.
        """
        known = self.read()
        if known is not None:
            return known, False
        secret = f"{_USER}:{secrets.token_urlsafe(32)}"
        made = self._write_once(secret)
        return (secret, True) if made else (self.read() or secret, False)

    def restore(self, secret: str) -> bool:
        """Write the auth string of a backup. Returns False if there is another one, which is kept.

        Raises:
            Misconfigured: `bad_auth_file`.
        """
        return self._write_once(secret) or self.read() == secret

    def add_url(self, api_url: str) -> None:
        """Record that the server at this address requires the auth string."""
        known = [url for url in self._known_urls() if url != _normalize_url(api_url)]
        self._make_folder()
        temporary = self._urls.with_suffix(f".{os.getpid()}")
        temporary.write_text(
            "".join(f"{url}\n" for url in [*known, _normalize_url(api_url)][-_MAX_URLS:]), encoding="utf-8"
        )
        temporary.replace(self._urls)

    def secret_for(self, api_url: str) -> str | None:
        """The auth string, if the server at this address requires it."""
        return self.read() if _normalize_url(api_url) in self._known_urls() else None

    def _make_folder(self) -> None:
        for folder in (self._folder.parent, self._folder):  # mkdir applies `mode` only to the last folder
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _known_urls(self) -> list[str]:
        try:
            return self._urls.read_text(encoding="utf-8").split()
        except FileNotFoundError:
            return []

    def _write_once(self, secret: str) -> bool:
        """Write the file atomically. Returns False if another process has already written it."""
        self._make_folder()
        handle, temporary = tempfile.mkstemp(dir=self._folder)  # mode 0600
        try:
            with os.fdopen(handle, "w") as file:
                file.write(f"{secret}\n")
            os.link(temporary, self.path)
        except FileExistsError:
            return False
        finally:
            Path(temporary).unlink(missing_ok=True)
        return True


def supply_auth_string(cache_dir: Path, api_url: str) -> None:
    """Put the stored auth string into this process's environment when the server at `api_url` requires it.

    Raises:
        Misconfigured: `bad_auth_file`.
    """
    if os.environ.get(CLIENT_AUTH):
        return
    secret = ServerAccess(cache_dir).secret_for(api_url)
    if secret is None:
        return
    os.environ[CLIENT_AUTH] = secret
    if "prefect.context" in sys.modules:  # Prefect has read its settings already
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()


def _normalize_url(api_url: str) -> str:
    """Normalize an API address, so that the three names of loopback compare equal."""
    try:
        parts = urlsplit(api_url.strip())
        name, port = parts.hostname or "", parts.port
    except ValueError:
        return ""
    name = _LOOPBACK[0] if name in _LOOPBACK else name
    return (
        f"{parts.scheme}://{name}:{port or (443 if parts.scheme == 'https' else 80)}{parts.path.rstrip('/')}"
    )


def apply_prefect_defaults() -> None:
    """Set the defaults and the secret of Prefect's temporary server, unless the user chose others.

    Call this before Prefect is imported: Prefect reads its settings once.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    use_json_logs(get_settings())
    _guard_temporary_server()


def use_json_logs(settings: Settings) -> None:
    """Make the processes of Prefect that inherit this environment log JSON lines where LOG_FORMAT says so."""
    for name, value in JSON_LOGS.items() if settings.log_format == "json" else ():
        os.environ.setdefault(name, value)


def _guard_temporary_server() -> None:
    """Make Prefect's temporary server require a random auth string of this process.

    Prefect starts that server if PREFECT_API_URL is not set. It uses the database of `panelworks up`. Without the auth
    string, a web page could create an automation there that runs later.
    """
    from prefect.context import refresh_global_settings_context
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    if settings.api.url or settings.api.auth_string or settings.server.api.auth_string:
        return
    os.environ[SERVER_AUTH] = os.environ[CLIENT_AUTH] = f"panelworks:{secrets.token_urlsafe(32)}"
    refresh_global_settings_context()


def find_server_url() -> str | None:
    """The API's address; None if nothing configures one.

    The environment, the active profile, `prefect.toml`, `pyproject.toml` and `.env` are read by Prefect itself. If it is
    the server of `panelworks up`, its auth string is put into this process's environment. Prefect is imported only if
    PREFECT_API_URL, one of Prefect's files or an earlier import can provide the address: the import takes a second.

    Raises:
        Misconfigured: `bad_auth_file`.
    """
    if not (os.environ.get(_API_URL_VARIABLE) or "prefect.settings" in sys.modules or _may_be_in_files()):
        return None
    from prefect.settings import PREFECT_API_URL

    url = PREFECT_API_URL.value() or None
    if url is not None:
        supply_auth_string(get_settings().cache_dir, url)
    return url


def require_server() -> str:
    """The API's address.

    Raises:
        Misconfigured: `no_server`, `bad_auth_file`.
    """
    url = find_server_url()
    if url is None:
        raise Misconfigured(
            "no_server",
            "No Prefect server is configured: set PREFECT_API_URL, run 'prefect config set PREFECT_API_URL=...',"
            " or start one with 'panelworks up'.",
        )
    return url


def check_server() -> str:
    """Send one request to the server and return the API's address.

    A command calls this first, so that it fails before it starts any work.

    Raises:
        Misconfigured: `no_server`, `bad_auth_file`, `prefect_refused`, `not_prefect`.
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
        raise (as_server_error(error) or error) from error
    return url


def credentials() -> tuple[str, str] | None:
    """User and password of the auth string in Prefect's settings; None if there is none."""
    from prefect.settings import get_current_settings

    secret = get_current_settings().api.auth_string
    user, _, password = (secret.get_secret_value() if secret else "").partition(":")
    return (user, password) if user else None


def as_server_error(error: Exception) -> PanelworksError | None:
    """Convert an exception of Prefect's client, or of a request to its server, to an error of Panelworks.

    Returns None for any other exception. httpx takes 0.1 s to import. It is not imported here if no other module has
    imported it.
    """
    if "httpx" not in sys.modules:
        return None
    import httpx

    if not isinstance(error, httpx.HTTPError):
        return None
    url = find_server_url() or "the configured address"
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
    """The error for an address where another service than Prefect's API answers: often its UI, which answers every path."""
    return Misconfigured(
        "not_prefect", f"{url} is not the API of a Prefect server; PREFECT_API_URL usually ends in /api."
    )


def _may_be_in_files() -> bool:
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect").expanduser()
    profiles = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    return profiles.exists() or any(_file_contains(Path(name), text) for name, text in _SETTINGS_FILES)


def _file_contains(path: Path, text: str) -> bool:
    try:
        return text in path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
