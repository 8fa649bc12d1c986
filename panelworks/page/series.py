"""Rules of series: what a person chose for all pages of a series, each an object of the working store.

A rule completes the options of a request before other rules are tried: pages are treated as if each request stated what
was chosen. What a request states has precedence.
"""

import logging
from datetime import UTC, datetime
from typing import Final

from pydantic import AwareDatetime, Field, ValidationError

from panelworks.domain.fields import ClientId, Frozen, digest_of
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.treatment import GivenTreatment, Treatment
from panelworks.storage.folder import ObjectFolder

logger = logging.getLogger(__name__)

SERIES_FOLDER: Final = "series/"
"""Folder of the rules in the working store."""


class SeriesRule(Frozen):
    """What is done to the pages of a series."""

    owner: str | None
    """API key whose pages it is for; None: those of operators and events, and books."""
    series: ClientId = Field(min_length=1)
    """The comic's identity in its generator, or the name of the book without extension; upper and lower case are the same."""
    treatment: GivenTreatment
    set_by: str
    """Name of the API key, or address of the caller where there are no keys."""
    set_at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    job_id: str | None = None
    """The page for which it was chosen."""


class SeriesRules:
    """The rules of series in the working store, which all gateways and workers share."""

    def __init__(self, folder: ObjectFolder) -> None:
        self._folder = folder

    def find(self, owner: str | None, series: str) -> SeriesRule | None:
        """The rule of a series; None if there is none, or it is damaged.

        Raises:
            Transient, Misconfigured: the store cannot be read.
        """
        return self._read(_name(owner, series))

    def rules_of(self, owner: str | None) -> list[SeriesRule]:
        """The rules of an owner, by the names of their series."""
        return self._rules_under(_folder_of(owner))

    def all_rules(self) -> list[SeriesRule]:
        """The rules of all owners, by the names of their series."""
        return self._rules_under(SERIES_FOLDER)

    def store(self, rule: SeriesRule) -> None:
        """Store a rule. It replaces the one that its series had."""
        self._folder.write(
            _name(rule.owner, rule.series), rule.model_dump_json().encode(), "application/json"
        )
        logger.info(
            "series rule set: owner=%s series=%s by=%s treatment=%s",
            rule.owner, rule.series, rule.set_by, rule.treatment.describe(),
        )  # fmt: skip

    def remove(self, owner: str | None, series: str) -> bool:
        """Remove the rule of a series; returns whether there was one."""
        name = _name(owner, series)
        if not self._folder.exists(name):
            return False
        self._folder.delete(name)
        logger.info("series rule removed: owner=%s series=%s", owner, series)
        return True

    def complete(
        self, options: EnhanceOptions, owner: str | None, series: str | None
    ) -> tuple[EnhanceOptions, Treatment | None]:
        """The options of a page with what the rule of its series states, and what that is.

        The rule is not used again for the options that are returned, so that they stay the same when it changes. A request
        with rules of its own uses none.
        """
        rule = None
        if series and options.rules is None and not options.ignore_series_rule:
            rule = self.find(owner, series)
        treatment = None if rule is None else rule.treatment
        completed = options if treatment is None else options.with_defaults_from(treatment)
        return completed.model_copy(update={"ignore_series_rule": True}), treatment

    def _rules_under(self, prefix: str) -> list[SeriesRule]:
        found = (self._read(file.name) for file in self._folder.files(prefix))
        return sorted(
            (rule for rule in found if rule is not None),
            key=lambda rule: (rule.series.lower(), rule.owner or ""),
        )

    def _read(self, name: str) -> SeriesRule | None:
        data = self._folder.read(name)
        try:
            return SeriesRule.model_validate_json(data) if data is not None else None
        except ValidationError as error:
            logger.error("series rule %s is ignored: it is damaged: %d errors", name, error.error_count())
            return None


def _folder_of(owner: str | None) -> str:
    return f"{SERIES_FOLDER}{digest_of(owner)}/"


def _name(owner: str | None, series: str) -> str:
    """Names of series may contain any character: objects are named after a digest."""
    return f"{_folder_of(owner)}{digest_of(series.lower())}.json"
