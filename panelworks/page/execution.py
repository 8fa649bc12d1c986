"""Running the steps of a plan on one picture."""

from collections.abc import Callable, Sequence
from typing import Any

from panelworks.domain.plan import Plan, Step
from panelworks.errors import ResourceExhausted
from panelworks.pictures import Picture
from panelworks.progress import Progress, part_progress
from panelworks.settings import Settings
from panelworks.steps.base import FrameMemory, Work
from panelworks.steps.catalogue import provider_named
from panelworks.steps.regional import fix_regions, is_regional

NoteTaker = Callable[[str], Any]
"""Called with notes for people."""


def run_plan(
    picture: Picture, plan: Plan, settings: Settings, keep: Callable[[str, Picture], Any], note: NoteTaker,
    progress: Progress, memories: Sequence[FrameMemory] | None = None,
) -> Picture:  # fmt: skip
    """Run the steps of a plan; returns the result.

    Args:
        picture: The source.
        plan: The steps.
        settings: For the providers.
        keep: Called with the pictures around the enlargement, as soon as they exist: `reference` and `faithful`, as in `Attempt`.
        note: Called with the notes of the steps.
        progress: Called with the finished share.
        memories: What each step remembers of the frames before, for an animation.

    Raises:
        ResourceExhausted: `out_of_memory`.
        Invalid, Transient, Misconfigured: as the providers.
    """
    faithful = plan.faithful
    for index, step in enumerate(plan.steps):
        if index == faithful.start and index > 0:
            keep("reference", picture)
        if index == faithful.stop:
            keep("faithful", picture)
        share = part_progress(progress, index, len(plan.steps))
        memory = None if memories is None else memories[index]
        picture = _processed(picture, step, Work(settings, (plan.width, plan.height), share, note, memory))
        share(1.0)
    return picture


def _processed(picture: Picture, step: Step, work: Work) -> Picture:
    try:
        provider = provider_named(step.provider)
        if is_regional(step):
            return fix_regions(provider, picture, step, work)
        return provider.process(picture, step, work)
    except MemoryError as error:
        raise ResourceExhausted("out_of_memory", f"There is too little memory for {step.action}.") from error
