"""Rules of series: routes that list, set and remove what is done to all pages of a series."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Query

from panelworks.domain.fields import ClientId
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.treatment import Treatment
from panelworks.errors import Rejected
from panelworks.page.entry_points import admit_treatment
from panelworks.page.rules import check_plan
from panelworks.page.series import SeriesRule
from panelworks.settings import Settings
from service.gateway.access import By, Caller, GuardedRoute, Refused
from service.gateway.schemas import Schema
from service.gateway.state import GatewayState, State

router = APIRouter(prefix="/api/series", tags=["series"], route_class=GuardedRoute)
Series = Annotated[
    ClientId,
    Path(min_length=1, description="`comic_id` of the pages, or name of the book without extension."),
]
RuleOwner = Annotated[
    str | None,
    Query(
        max_length=200,
        description="For admin keys: whose rules; empty for pages without a key and for books.",
    ),
]


class SeriesRuleList(Schema):
    """Rules of series, by the names of the series."""

    rules: tuple[SeriesRule, ...]


@router.get("")
async def list_rules(state: State, caller: By, owner: RuleOwner = None) -> SeriesRuleList:
    """The rules of the key; those of all keys for an admin key."""
    rules = state.engine.series
    if caller.admin and owner is None:
        return SeriesRuleList(rules=tuple(await asyncio.to_thread(rules.all_rules)))
    return SeriesRuleList(rules=tuple(await asyncio.to_thread(rules.rules_of, _owner_for(caller, owner))))


@router.put("/{series:path}")
async def set_rule(
    series: Series, body: Treatment, state: State, caller: By, owner: RuleOwner = None
) -> SeriesRule:
    """Set what is done to the pages of a series; it replaces the rule that the series had."""
    rule = SeriesRule(owner=_owner_for(caller, owner), series=series, treatment=body, set_by=caller.name)
    await store_rule(rule, state)
    return rule


@router.delete("/{series:path}", status_code=204)
async def remove_rule(series: Series, state: State, caller: By, owner: RuleOwner = None) -> None:
    """Remove the rule of a series."""
    if not await asyncio.to_thread(state.engine.series.remove, _owner_for(caller, owner), series):
        raise Rejected("unknown_series", "There is no rule for this series.")


async def store_rule(rule: SeriesRule, state: GatewayState) -> None:
    """Store a rule that a client has named.

    Raises:
        Rejected: `bad_request`, it states nothing. UnsafeSource: as `admit_treatment`. UnknownName: no page could be planned.
    """
    await asyncio.to_thread(_check, rule.treatment, state.settings)
    await asyncio.to_thread(state.engine.series.store, rule)


def _check(treatment: Treatment, settings: Settings) -> None:
    if not treatment.given:
        raise Rejected(
            "bad_request", "The rule states nothing; give at least one option, or remove the rule."
        )
    admit_treatment(treatment, settings)
    check_plan(EnhanceOptions().with_defaults_from(treatment), settings)


def _owner_for(caller: Caller, owner: str | None) -> str | None:
    """The owner whose rules a caller names: a key has its own, an admin key names those of any key.

    Raises:
        Refused: `admin_only`.
    """
    if owner is None or (owner == caller.owner and not caller.admin):
        return caller.owner
    if not caller.admin:
        raise Refused("admin_only", "Only admin keys name the rules of other keys.")
    return owner or None
