"""Versions that identify work.

`ENGINE_VERSION` is part of every content key: raise it when the same page and settings would give
other bytes, and nothing computed before is taken for the new result.
"""

__version__ = "0.1.0"
ENGINE_VERSION = "4"
