"""Typed configuration that Prefect stores and shows in its UI."""

from blocks.profile import EnhancementProfile
from blocks.runpod_credentials import RunPodCredentials

__all__ = ["EnhancementProfile", "RunPodCredentials"]
