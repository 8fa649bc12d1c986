"""The health check of the image: `python -m deployments.health`.

The image has several roles; PANELWORKS_HEALTH_URL is the address that its role serves. A pod that executes a flow
run serves nothing: Prefect receives its heartbeats.
"""

import os
import sys
from urllib.error import URLError
from urllib.request import urlopen


def main() -> int:
    """Return 0 if the role answers or serves nothing, else 1."""
    url = os.environ.get("PANELWORKS_HEALTH_URL")
    if not url:
        return 0
    try:
        with urlopen(url, timeout=5) as response:  # noqa: S310 - an address in our own container
            return 0 if response.status < 400 else 1
    except (URLError, OSError, ValueError) as error:
        print(f"{url}: {error}", file=sys.stderr)  # noqa: T201 - Docker shows the output
        return 1


if __name__ == "__main__":
    sys.exit(main())
