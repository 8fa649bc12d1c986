"""Registers the worker types of the pipeline where there is one: an entry point in pyproject.toml loads this module.

It must be importable wherever the library is installed, so that it names nothing that only a checkout has.
"""

import importlib
from pathlib import Path
from typing import Final

_CHECKOUT: Final = Path(__file__).parents[2]

if (_CHECKOUT / "deployments" / "worker_types.py").is_file():
    importlib.import_module("deployments.worker_types")
