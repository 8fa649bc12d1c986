"""Provenance: what was done to each page, in a file inside the book and, if asked, in the pages.

Nothing of a run is in it, no time and no place: the same book and settings give the same bytes.
"""

import json
from collections.abc import Sequence
from typing import Any, Final
from xml.sax.saxutils import quoteattr

from panelworks.books.options import BookOptions
from panelworks.books.records import PageDone
from panelworks.records import Plan
from panelworks.version import ENGINE_VERSION, __version__

SIDECAR: Final = "panelworks.json"
"""Name of the provenance inside a book."""
_NAMESPACE: Final = "https://panelworks.invalid/ns/1.0/"
"""Names the vocabulary of our XMP; nothing is served there."""


def sidecar(options: BookOptions, pages: Sequence[PageDone], names: Sequence[Sequence[str]]) -> bytes:
    """The provenance of a book whose pages bear `names`."""
    content = {
        "panelworks": __version__,
        "engine": ENGINE_VERSION,
        "options": options.model_dump(mode="json", exclude_defaults=True),
        "pages": [_page(page, files) for page, files in zip(pages, names, strict=True)],
    }
    return (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode()


def _page(page: PageDone, files: Sequence[str]) -> dict[str, Any]:
    content: dict[str, Any] = {
        "files": list(files),
        "source": page.name,
        "source_sha256": page.source_sha256,
        "content_key": page.content_key,
        "state": page.state,
    }
    outcome = page.outcome
    if outcome is not None:
        content |= {
            "scores": {"before": outcome.before.overall, "after": outcome.after.overall},
            "steps": [] if outcome.plan is None else steps_of(outcome.plan),
            "decision": outcome.decision,
        }
        if outcome.fallback is not None:
            content["fallback"] = outcome.fallback.model_dump(mode="json")
    if page.notes:
        content["notes"] = list(page.notes)
    if page.error is not None:
        content["error"] = page.error.model_dump()
    return content


def steps_of(plan: Plan) -> list[dict[str, Any]]:
    """What was done, by which weights."""
    return [
        {"action": step.action, "model": step.model, "weights_sha256": step.digest, "config": step.config}
        for step in plan.steps
    ]


def xmp_packet(plan: Plan | None, content_key: str) -> bytes:
    """An XMP packet that names software, models and weights."""
    steps = [] if plan is None else steps_of(plan)
    done = "; ".join(
        f"{step['action']} by {step['model']} {(step['weights_sha256'] or '')[:12]}".strip() for step in steps
    )
    attributes = {
        "xmp:CreatorTool": f"Panelworks {__version__}",
        "pw:contentKey": content_key,
        "pw:steps": done or "none",
    }
    listed = " ".join(f"{name}={quoteattr(value)}" for name, value in attributes.items())
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
        f' xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:pw="{_NAMESPACE}" {listed}/></rdf:RDF></x:xmpmeta>'
        '<?xpacket end="w"?>'
    ).encode()
