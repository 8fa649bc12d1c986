"""Settings of Prefect that its temporary server needs on slow machines, unless the user chose others."""

import os
import secrets
from typing import Final

from service.server_access import CLIENT_AUTH, SERVER_AUTH

_DEFAULTS: Final = {
    # The first start makes a database: 10 s on a fast machine, more than Prefect's 20 s on a busy one.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "panelworks",
    # The gateway logs outside of runs; each such line would have a warning of four lines.
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}


def apply_prefect_defaults() -> None:
    """Set the defaults; call it before Prefect is imported, since it reads its settings once."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    _guard_temporary_server()


def _guard_temporary_server() -> None:
    """Have the server that Prefect starts for a run without PREFECT_API_URL demand a secret of this process.

    It uses the database of `panelworks up`: an automation that a web page creates there would run later.
    """
    from prefect.context import refresh_global_settings_context
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    if settings.api.url or settings.api.auth_string or settings.server.api.auth_string:
        return
    os.environ[SERVER_AUTH] = os.environ[CLIENT_AUTH] = f"panelworks:{secrets.token_urlsafe(32)}"
    refresh_global_settings_context()
