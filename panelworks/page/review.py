"""Reviews: a page that a person has to see waits under `review/`; approval publishes it, rejection publishes its original."""

import logging
from collections.abc import Callable
from typing import Any, Final

from panelworks.domain.fields import digest_of
from panelworks.domain.formats import VariantSpec
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.plan import Route
from panelworks.domain.request import JobKey, job_digest
from panelworks.domain.result import (
    REVIEW_FOLDER,
    ArtifactRef,
    DeliveredVariant,
    JobRecord,
    PageResult,
    Quality,
    Review,
)
from panelworks.errors import ObjectMissing, Rejected
from panelworks.page.decisions import Decision, DecisionStore, StoredDecision
from panelworks.page.delivery import DeliveryPlace
from panelworks.page.engine import Engine
from panelworks.page.presets import with_preset
from panelworks.page.rules import rules_of
from panelworks.page.variants import with_source
from panelworks.pictures import MEDIA_TYPES
from panelworks.settings import Settings
from panelworks.storage.folder import ObjectFolder, name_of, open_folder
from panelworks.storage.headers import headers_of, public_url

logger = logging.getLogger(__name__)

_PREFIX: Final = "reviews/"
_ORIGINAL_KEPT: Final[Route] = "couldn't_upscale"


class PageDecision(StoredDecision):
    """A decision with its page."""

    owner: str | None
    job_id: str

    @property
    def key(self) -> JobKey:
        """The job of the page."""
        return JobKey(self.owner, self.job_id)


class Reviews:
    """Decisions on the pages of an engine's store."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.decisions = DecisionStore(engine.settings, _PREFIX, PageDecision, "page")
        """What was decided, for those who report it."""

    def decide(self, key: JobKey, decision: Decision) -> JobRecord:
        """Publish or reject a page; returns its record. Deciding again in the same way changes nothing.

        Raises:
            Rejected: `unknown_job`; `not_reviewed`, it was published without a review; `already_reviewed`, the decision was
                another one; `not_found`, its pictures are no longer stored.
            Transient, Misconfigured: store, ledger or destination are unavailable; the call can be repeated.
        """
        record = self._engine.jobs.job(key)
        if record is None:
            raise Rejected("unknown_job", "There is no such job.")
        review = record.result.review
        if review is None:
            raise Rejected("not_reviewed", "This page was published without a review.")
        stored = PageDecision(owner=key.owner, job_id=key.job_id, decision=decision)
        decision = self.decisions.store(_identity(key, review), stored)
        return record if review.state != "pending" else self._carry_out(record, review, decision)

    def _carry_out(self, record: JobRecord, review: Review, decision: Decision) -> JobRecord:
        request, result = record.request, record.result
        stored = PageDecision(owner=request.origin.owner, job_id=request.job_id, decision=decision)
        self.decisions.mark_unreported(_identity(request.key, review), stored)
        folder = open_folder(request.out, self._engine.settings)
        published = decision.state == "approved" or decision.publish_original
        waiting = _addresses(result)
        changes: dict[str, Any] = {}
        if decision.state == "approved":
            changes = self._publish(result, folder)
        elif decision.publish_original:
            changes = self._publish_original(record, folder)
        result = result.model_copy(update={**changes, "review": decided(review, decision)})
        record = JobRecord(request=request, result=result)
        if published:
            # CDNs may have stored that the objects do not exist, or those of an earlier job.
            self._engine.purges.request(_addresses(result))
            self._engine.jobs.deliver_record(result, request.out)
        self._engine.ledger.append_decision(request, result)
        self._engine.jobs.replace(record)
        if published:
            self._remove(waiting, result, folder)
        logger.info("page %s: job_id=%s by=%s", decision.state, result.job_id, decision.by)
        return record

    def _publish(self, result: PageResult, folder: ObjectFolder) -> dict[str, Any]:
        """Copy the pictures from `review/` to their places."""
        if result.master is None:
            raise _pictures_missing()
        master = self._move(result.master.uri, result.master.media_type, result, folder)
        variants = tuple(self._publish_variant(one, result, folder) for one in result.variants)
        return {
            "master": self._moved(result.master, master),
            "variants": variants,
            **self._publish_preview(result, folder),
        }

    def _publish_preview(self, result: PageResult, folder: ObjectFolder) -> dict[str, Any]:
        """Copy the preview, which shows the source, from `review/` to its place. Results of earlier releases have none."""
        if result.preview is None:
            return {}
        uri = self._move(result.preview.uri, result.preview.media_type, result, folder)
        return {"preview": self._moved(result.preview, uri)}

    def _moved(self, picture: ArtifactRef, uri: str) -> ArtifactRef:
        return picture.model_copy(update={"uri": uri, "url": public_url(uri, self._engine.settings)})

    def _publish_variant(
        self, variant: DeliveredVariant, result: PageResult, folder: ObjectFolder
    ) -> DeliveredVariant:
        uri = self._move(variant.uri, MEDIA_TYPES[variant.format], result, folder)
        return variant.model_copy(update={"uri": uri, "url": public_url(uri, self._engine.settings)})

    def _move(self, uri: str, media_type: str, result: PageResult, folder: ObjectFolder) -> str:
        """Copy an object out of `review/`; returns its new address."""
        name = name_of(uri, folder).removeprefix(REVIEW_FOLDER)
        data = folder.read(name_of(uri, folder))
        if data is None:
            raise _pictures_missing()
        stem, last = _stem_of(result, folder), name.rpartition("/")[2]
        headers = headers_of(
            name,
            self._engine.settings,
            filename=f"{stem}-{last}" if name.startswith("variants/") else last,
            content_key=result.content_key,
            route=result.route,
        )
        return folder.write(name, data, media_type, headers)

    def _publish_original(self, record: JobRecord, folder: ObjectFolder) -> dict[str, Any]:
        """Deliver the original of a page and variants of it."""
        result = record.result
        if result.source is None or result.master is None or result.content_key is None:
            raise _pictures_missing()
        original = result.source.artifact
        stem = _stem_of(result, folder)
        key = f"{result.content_key}-original"
        place = DeliveryPlace(self._engine.store, folder, self._engine.settings, key, _ORIGINAL_KEPT, stem)
        specs = variant_specs(record, self._engine.settings, self._engine.watermarks.stored)
        try:
            made = self._engine.make_variants(original, specs)
            master = place.deliver_master(original)
            variants = place.deliver_variants(made)
        except ObjectMissing as error:
            raise _pictures_missing() from error
        smallest = min((variant.bytes for variant in variants), default=0)
        quality = result.quality
        return {
            "route": _ORIGINAL_KEPT,
            "model": None,
            "scale": 1.0,
            "steps": (),
            "master": master,
            "variants": variants,
            **self._publish_preview(result, folder),
            "quality": None if quality is None else Quality(before=quality.before, after=quality.before),
            "compression_ratio": round(result.source.bytes / smallest, 3) if smallest else None,
            "notes": (*result.notes, "a person rejected the enhanced page; the original is delivered"),
        }

    def _remove(self, uris: list[str], result: PageResult, folder: ObjectFolder) -> None:
        for uri in uris:
            folder.delete(name_of(uri, folder))
        folder.delete(f"{REVIEW_FOLDER}results/{result.content_key}.json")

    def set_next_job(self, key: JobKey, job_id: str) -> JobRecord | None:
        """Record which job processes a rejected page again."""
        record = self._engine.jobs.job(key)
        if record is None or record.result.review is None:
            return record
        review = record.result.review.model_copy(update={"next_job_id": job_id})
        record = record.model_copy(update={"result": record.result.model_copy(update={"review": review})})
        self._engine.jobs.replace(record)
        return record


def _addresses(result: PageResult) -> list[str]:
    """The addresses of all pictures of a page."""
    return [one.uri for one in (result.master, result.preview, *result.variants) if one is not None]


def decided(review: Review, decision: Decision) -> Review:
    """The review after the decision of a person."""
    return review.model_copy(
        update={
            "state": decision.state,
            "decided_at": decision.at,
            "decided_by": decision.by,
            "comment": decision.comment,
        }
    )


def variant_specs(
    record: JobRecord, settings: Settings, complete: Callable[[EnhanceOptions], EnhanceOptions]
) -> tuple[VariantSpec, ...]:
    """The variants of a finished page, with the treatments of the rules that applied."""
    options, rule = record.request.options, record.result.rule
    if record.result.series_rule is not None:
        options = options.with_defaults_from(record.result.series_rule)
    applied = [one.then for one in rules_of(options, settings) if rule is not None and one.name == rule.name]
    for treatment in applied:
        options = options.with_defaults_from(treatment)
    specs = complete(with_preset(options, settings)).resolve(settings).variant_specs
    return specs if record.result.source is None else with_source(specs, record.result.source)


def _identity(key: JobKey, review: Review) -> str:
    """The identity of a decision: a job that is processed again is reviewed again."""
    return digest_of([job_digest(key), review.requested_at.isoformat()])


def _stem_of(result: PageResult, folder: ObjectFolder) -> str:
    """The name of the delivered master without its folder and extension."""
    if result.master is None:
        raise _pictures_missing()
    return name_of(result.master.uri, folder).rpartition("/")[2].rpartition(".")[0]


def _pictures_missing() -> Rejected:
    return Rejected("not_found", "The pictures of this page were removed; process the page again.")
