"""The shared secret of the Prefect server that `panelworks up` starts: made once, kept in a file, found by our commands.

Prefect calls it auth string (`user:password`, HTTP Basic). It travels in the environment and in no command line.
"""

import os
import secrets
import sys
import tempfile
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from panelworks.errors import Misconfigured

SERVER_AUTH: Final = "PREFECT_SERVER_API_AUTH_STRING"
"""Variable of the server: what it demands."""
CLIENT_AUTH: Final = "PREFECT_API_AUTH_STRING"
"""Variable of workers, runs, gateway and commands: what they present."""
_USER: Final = "panelworks"
_MAX_URLS: Final = 16
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


class ServerAccess:
    """The secret and the addresses of the servers that demand it, under `cache_dir`."""

    def __init__(self, cache_dir: Path) -> None:
        self._folder = cache_dir.absolute() / "server"
        self.path = self._folder / "auth-string"
        """The file with the secret, mode 0600."""
        self._urls = self._folder / "api-urls"

    def read(self) -> str | None:
        """The secret; None: there is none yet.

        Raises:
            Misconfigured: `bad_auth_file`: others can read it, or it does not hold `user:password`.
        """
        try:
            mode, text = self.path.stat().st_mode, self.path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Misconfigured("bad_auth_file", f"{self.path} cannot be read ({error.strerror}).") from error
        if mode & 0o077:
            raise Misconfigured(
                "bad_auth_file", f"Others may read {self.path}; delete it, and it is made anew."
            )
        if ":" not in text:
            raise Misconfigured("bad_auth_file", f"{self.path} holds no user:password; delete it.")
        return text

    def create(self) -> tuple[str, bool]:
        """The secret, made if there is none; and whether it was made now.

        Raises:
            Misconfigured: `bad_auth_file`.
        """
        known = self.read()
        if known is not None:
            return known, False
        secret = f"{_USER}:{secrets.token_urlsafe(32)}"
        made = self._write_once(secret)
        return (secret, True) if made else (self.read() or secret, False)

    def add_url(self, api_url: str) -> None:
        """Note that the server at this address demands the secret."""
        known = [url for url in self._known_urls() if url != _plain(api_url)]
        self._make_folder()
        temporary = self._urls.with_suffix(f".{os.getpid()}")
        temporary.write_text(
            "".join(f"{url}\n" for url in [*known, _plain(api_url)][-_MAX_URLS:]), encoding="utf-8"
        )
        temporary.replace(self._urls)

    def secret_for(self, api_url: str) -> str | None:
        """The secret, if the server at this address is one that demands it."""
        return self.read() if _plain(api_url) in self._known_urls() else None

    def _make_folder(self) -> None:
        for folder in (
            self._folder.parent,
            self._folder,
        ):  # `parents=True` gives the mode to the last one only
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _known_urls(self) -> list[str]:
        try:
            return self._urls.read_text(encoding="utf-8").split()
        except FileNotFoundError:
            return []

    def _write_once(self, secret: str) -> bool:
        """Publish the whole file or nothing; False: another process was first."""
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
    """Put the stored secret into this process's environment when the server at `api_url` demands it.

    Raises:
        Misconfigured: `bad_auth_file`.
    """
    if os.environ.get(CLIENT_AUTH):
        return
    secret = ServerAccess(cache_dir).secret_for(api_url)
    if secret is None:
        return
    os.environ[CLIENT_AUTH] = secret
    if "prefect.context" in sys.modules:  # it has read its settings already
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()


def _plain(api_url: str) -> str:
    """An API address with one spelling: loopback has three names."""
    try:
        parts = urlsplit(api_url.strip())
        name, port = parts.hostname or "", parts.port
    except ValueError:
        return ""
    name = _LOOPBACK[0] if name in _LOOPBACK else name
    return (
        f"{parts.scheme}://{name}:{port or (443 if parts.scheme == 'https' else 80)}{parts.path.rstrip('/')}"
    )
