"""Plans, the ordered steps chosen for a picture, and the content key, the identity of the work."""

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field

from panelworks.domain.cards import DELIBERATE, ENLARGING, Action
from panelworks.domain.fields import Frozen, digest_of
from panelworks.domain.options import ResolvedOptions
from panelworks.domain.treatment import Conditions
from panelworks.version import ENGINE_VERSION

Route = Literal["good_quality", "upscaled", "couldn't_upscale"]
"""Outcome of a page; also the name of the folder that its master is delivered to."""
Condition = Literal[
    "always", "asked", "good", "jpeg", "strong_jpeg", "halftone", "colourless", "paper", "regions"
]
"""When a planned step runs: if the page is not good, always, if it is good, or if the quality report shows the cause.
`regions`: if it names parts of the page, which become a part of the step."""
Config = dict[str, Any]
"""Parameters of a step for its provider, as JSON."""


class Step(Frozen):
    """One action of a plan, with everything that decides its result."""

    action: Action
    provider: str
    model: str
    digest: str | None = None
    """SHA-256 of the weights; None for a step without weights."""
    weights: str | None = None
    """Path of the user's own weight file; None for a registered network."""
    tile: int | None = None
    """Side of a tile in source pixels; None: chosen for the machine."""
    precision: Literal["auto", "fp32"] = "auto"
    config: Config = Field(default_factory=dict)
    """Further parameters for the provider, such as a strength."""
    when: Condition = "always"


class Plan(Frozen):
    """The ordered steps chosen for a picture, and the size of the result in pixels.

    A plan is made before the picture is assessed. It contains conditional steps; `panelworks.page.planning` removes
    those whose condition the quality report does not meet.
    """

    steps: tuple[Step, ...]
    width: int
    height: int

    @property
    def model(self) -> str:
        """The network that enlarges the picture, or the resampler if there is none."""
        return next((s.model for s in self.steps if s.action in ("upscale", "enhance")), self.steps[-1].model)

    @property
    def faithful(self) -> slice:
        """The steps around the enlargement that preserve the content; validation compares before and after these."""
        deliberate = [index for index, step in enumerate(self.steps) if step.action in DELIBERATE]
        if len(deliberate) == len(self.steps):
            return slice(0, 0)
        enlarging = [index for index, step in enumerate(self.steps) if step.action in ENLARGING]
        middle = enlarging[0] if enlarging else next(i for i in range(len(self.steps)) if i not in deliberate)
        start = max((index + 1 for index in deliberate if index < middle), default=0)
        return slice(start, min((index for index in deliberate if index > middle), default=len(self.steps)))


def content_key(
    source_sha256: str, treatments: Iterable[tuple[Conditions | None, ResolvedOptions, Plan]]
) -> str:
    """SHA-256 over the source bytes, the engine version, and each treatment that the page may get: its conditions, options, and
    plan with its weights.

    The name and path of a weight file are not part of it; its digest is. Neither are the names of rules.
    """
    return digest_of(
        {
            "engine": ENGINE_VERSION,
            "source": source_sha256,
            "treatments": [
                {
                    "when": when.model_dump(exclude_defaults=True) if when is not None else None,
                    "options": options.model_dump(exclude={"model", "review"}),
                    "size": [plan.width, plan.height],
                    "steps": [_identity(step) for step in plan.steps],
                    "variants": [spec.model_dump() for spec in options.variant_specs],
                }
                for when, options, plan in treatments
            ],
        }
    )


def _identity(step: Step) -> dict[str, Any]:
    """The part of a step that decides its result."""
    identity = step.model_dump(exclude={"weights"} if step.digest is None else {"weights", "model"})
    identity["config"] = {name: value for name, value in step.config.items() if name != "partner"}
    return identity
