"""Providers: what can be done to a picture, one file each, found by the name in a step."""

from panelworks.steps.base import Provider, Work
from panelworks.steps.catalogue import provider_named, step_for, take_inventory

__all__ = ["Provider", "Work", "provider_named", "step_for", "take_inventory"]
