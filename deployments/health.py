"""The health check of the image: `python -m deployments.health`.

An image with many roles asks what its role serves: the address in PANELWORKS_HEALTH_URL. A pod that runs one flow
run serves nothing; Prefect hears its heartbeats.
"""

import os
import sys
from urllib.error import URLError
from urllib.request import urlopen


def main() -> int:
    """0 when the role answers, or has nothing to ask; else 1."""
    url = os.environ.get("PANELWORKS_HEALTH_URL")
    if not url:
        return 0
    try:
        with urlopen(url, timeout=5) as answer:  # noqa: S310 - an address of our own container
            return 0 if answer.status < 400 else 1
    except (URLError, OSError, ValueError) as trouble:
        print(f"{url}: {trouble}", file=sys.stderr)  # noqa: T201 - Docker shows it
        return 1


if __name__ == "__main__":
    sys.exit(main())
