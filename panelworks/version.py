"""Versions that identify work.

`ENGINE_VERSION` is part of every content key. Raise it when the same page and settings would produce
different bytes, so that earlier results are not returned.
"""

__version__ = "0.1.0"
ENGINE_VERSION = "7"
