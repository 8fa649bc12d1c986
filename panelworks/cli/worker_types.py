"""Registers the worker types of the pipeline, if there is one. An entry point in pyproject.toml loads this module.

It must be importable wherever the library is installed. Therefore it does not depend on modules of a checkout.
"""

import importlib
from pathlib import Path
from typing import Final

_CHECKOUT: Final = Path(__file__).parents[2]

if (_CHECKOUT / "deployments" / "worker_types.py").is_file():
    importlib.import_module("deployments.worker_types")
