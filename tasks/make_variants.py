"""Task: make the variants of a preset."""

from orchestration.stage_tasks import stage_task
from panelworks.domain.formats import VariantSpec
from panelworks.domain.result import ArtifactRef, VariantArtifact
from panelworks.page.engine import get_engine


@stage_task("variants")
def make_variants(master: ArtifactRef, specs: tuple[VariantSpec, ...]) -> tuple[VariantArtifact, ...]:
    """The variants, in the store."""
    return get_engine().make_variants(master, specs)
