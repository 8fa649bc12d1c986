"""Plans: the ordered steps chosen for a picture, and the content key, the identity of the work that they are."""

from typing import Any, Literal

from pydantic import Field

from panelworks.domain.cards import DELIBERATE, ENLARGING, Action
from panelworks.domain.fields import Frozen, digest_of
from panelworks.domain.formats import preset_named
from panelworks.domain.options import ResolvedOptions
from panelworks.version import ENGINE_VERSION

Route = Literal["good_quality", "upscaled", "couldn't_upscale"]
"""Where a page ended; also the name of the folder that its master is delivered to."""
Condition = Literal["always", "asked", "good", "jpeg", "strong_jpeg", "halftone"]
"""When a planned step is taken: unless the page is good, always, only if it is good, or if the report says so."""
Config = dict[str, Any]
"""What a provider must know of a step beside its model, as JSON."""


class Step(Frozen):
    """One action of a plan, with all that decides its result."""

    action: Action
    provider: str
    model: str
    digest: str | None = None
    """SHA-256 of the weights; None where there are none."""
    weights: str | None = None
    """Path of the user's own weight file; None for a registered network."""
    tile: int | None = None
    """Side of a tile; None takes what suits the machine."""
    precision: Literal["auto", "fp32"] = "auto"
    config: Config = Field(default_factory=dict)
    """What the provider must know beside that, such as a strength."""
    when: Condition = "always"


class Plan(Frozen):
    """The ordered steps chosen for a picture and the size they lead to.

    Made without having looked at the picture, it holds also steps that are taken only when the report
    says so; `panelworks.page.planning.chosen` leaves those that are.
    """

    steps: tuple[Step, ...]
    width: int
    height: int

    @property
    def model(self) -> str:
        """The network that decides the look, or the resampler where there is none."""
        return next((s.model for s in self.steps if s.action in ("upscale", "enhance")), self.steps[-1].model)

    @property
    def faithful(self) -> slice:
        """The steps around the enlargement that change nothing on purpose; the validator judges these."""
        deliberate = [index for index, step in enumerate(self.steps) if step.action in DELIBERATE]
        if len(deliberate) == len(self.steps):
            return slice(0, 0)
        enlarging = [index for index, step in enumerate(self.steps) if step.action in ENLARGING]
        middle = enlarging[0] if enlarging else next(i for i in range(len(self.steps)) if i not in deliberate)
        start = max((index + 1 for index in deliberate if index < middle), default=0)
        return slice(start, min((index for index in deliberate if index > middle), default=len(self.steps)))


def content_key(source_sha256: str, options: ResolvedOptions, plan: Plan) -> str:
    """SHA-256 over the source bytes, the options, the plan with its weights, and the engine version.

    Where a weight file lies and what it is called does not count, its digest does.
    """
    steps = [_identity(step) for step in plan.steps]
    return digest_of(
        {
            "engine": ENGINE_VERSION,
            "source": source_sha256,
            "options": options.model_dump(exclude={"model"}),
            "size": [plan.width, plan.height],
            "steps": steps,
            "variants": [spec.model_dump() for spec in preset_named(options.preset)],
        }
    )


def _identity(step: Step) -> dict[str, Any]:
    """What of a step decides its result."""
    identity = step.model_dump(exclude={"weights"} if step.digest is None else {"weights", "model"})
    identity["config"] = {name: value for name, value in step.config.items() if name != "partner"}
    return identity
