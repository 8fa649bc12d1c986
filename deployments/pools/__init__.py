"""Work pools: the templates of their jobs, and whether the infrastructure would take what they render."""

from deployments.pools.checks import check
from deployments.pools.kinds import KINDS, UnknownKind, template
from deployments.pools.rendering import Rendered, render

__all__ = ["KINDS", "Rendered", "UnknownKind", "check", "render", "template"]
