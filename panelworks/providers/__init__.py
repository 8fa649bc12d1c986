"""Providers: what can be done to a picture, one file each, found by the name in a step."""

from panelworks.providers.base import Provider, Work
from panelworks.providers.catalogue import provider_named, step_for

__all__ = ["Provider", "Work", "provider_named", "step_for"]
