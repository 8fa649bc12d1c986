"""Settings of Prefect that its temporary server needs on slow machines, unless the user chose others."""

import os
from typing import Final

_DEFAULTS: Final = {
    # The first start makes a database: 10 s on a fast machine, more than Prefect's 20 s on a busy one.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "panelworks",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}


def apply_prefect_defaults() -> None:
    """Set the defaults; call it before Prefect is imported, since it reads its settings once."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
