"""The content key: the identity of work. Same key, same result."""

import hashlib
import json
from typing import Any

from panelworks.options import SettledOptions
from panelworks.presets import preset_named
from panelworks.records import Plan, Step
from panelworks.version import ENGINE_VERSION


def content_key(source_sha256: str, options: SettledOptions, plan: Plan) -> str:
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


def digest_of(content: Any) -> str:
    """SHA-256 of the canonical JSON of `content`, in hexadecimal."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
