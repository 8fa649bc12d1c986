"""Task: cut the variants of a preset."""

from prefect import task

from panelworks.engine import get_engine
from panelworks.presets import preset_named
from panelworks.records import ArtifactRef, VariantArtifact
from tasks.policies import JITTER, RETRIES, RETRY_DELAYS, by_content, is_transient


@task(
    name="make-variants",
    task_run_name="make variants for {preset}",
    tags=["cpu"],
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAYS,
    retry_jitter_factor=JITTER,
    retry_condition_fn=is_transient,
    timeout_seconds=600,
    cache_policy=by_content(
        "make-variants",
        lambda arguments: [
            arguments["master"].sha256,
            [spec.model_dump() for spec in preset_named(arguments["preset"])],
        ],
    ),
    result_serializer="json",
    cache_result_in_memory=False,
)
def make_variants(master: ArtifactRef, preset: str) -> tuple[VariantArtifact, ...]:
    """The variants, kept in the store."""
    return get_engine().make_variants(master, preset)
