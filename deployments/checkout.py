"""Pull step of every deployment: where the code of this machine lies."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
"""The checkout, where `prefect.yaml` lies."""


def enter() -> dict[str, str]:
    """Work in this machine's checkout; its name is the step's output, as Prefect expects it."""
    os.chdir(ROOT)
    return {"directory": str(ROOT)}
