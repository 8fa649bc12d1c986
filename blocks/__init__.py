"""Typed configuration that Prefect stores and shows in its UI."""

from blocks.profile import EnhancementProfile

__all__ = ["EnhancementProfile"]
