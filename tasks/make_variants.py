"""Task: cut the variants of a preset."""

from panelworks.domain.formats import preset_named
from panelworks.domain.result import ArtifactRef, VariantArtifact
from panelworks.page.engine import get_engine
from tasks.stage import stage


@stage(
    "make-variants",
    run_name="make variants for {preset}",
    timeout_seconds=600,
    identity=lambda given: [
        given["master"].sha256,
        [spec.model_dump() for spec in preset_named(given["preset"])],
    ],
)
def make_variants(master: ArtifactRef, preset: str) -> tuple[VariantArtifact, ...]:
    """The variants, kept in the store."""
    return get_engine().make_variants(master, preset)
