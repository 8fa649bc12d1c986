"""An invented outcome of a page."""

from panelworks.domain.result import ArtifactRef, Outcome
from panelworks.quality import assess
from tests.pages import drawn


def outcome(width: int = 10, seconds: dict[str, float] | None = None) -> Outcome:
    """The outcome of a page of good quality whose master is `width` pixels wide."""
    report = assess(drawn(40, 40))
    return Outcome(
        route="good_quality",
        decision="good enough",
        before=report,
        after=report,
        plan=None,
        fallback=None,
        master=ArtifactRef(
            sha256="a" * 64, uri="file:///x", media_type="image/png", width=width, height=1, bytes=1
        ),
        variants=(),
        seconds=seconds or {},
    )
