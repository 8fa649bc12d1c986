"""Tests. This module is imported before all libraries, which read their environment variables when they are imported."""

import os
from pathlib import Path

os.environ["SSL_CERT_FILE"] = str(Path(__file__).parents[1] / "deployments" / "warm" / "no_authority.pem")
"""All servers of the tests are on loopback, without TLS. Each HTTP client, and Prefect makes two for each task run,
would otherwise parse some 140 certificates: 20 ms. Processes that tests start inherit this."""
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
"""Threads of torch sleep while they wait: several test processes share the cores."""
