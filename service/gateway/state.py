"""The parts of a running gateway."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from panelworks.books.review import BookReviews
from panelworks.books.views import BookViews
from panelworks.page.engine import Engine
from panelworks.page.preview import Previews
from panelworks.page.review import Reviews
from panelworks.page.views import PageViews
from panelworks.settings import Settings
from service.gateway.access import Access
from service.gateway.backfill_runs import BackfillWork
from service.gateway.batch_runs import BatchRuns
from service.gateway.bodies import LargeBodies
from service.gateway.book_index import BookIndex
from service.gateway.direct_pages import BudgetWatch, DirectPages
from service.gateway.event_stream import EventStream
from service.gateway.jobs import Jobs
from service.gateway.metrics import Metrics
from service.gateway.negotiation import Conversions
from service.gateway.outbox import DecisionReports, Outbox
from service.gateway.prefect_readings import PrefectReadings
from service.gateway.result_index import ResultIndex
from service.gateway.submission import Submission


@dataclass(frozen=True)
class GatewayState:
    """The parts that routes work with."""

    settings: Settings
    engine: Engine
    access: Access
    metrics: Metrics
    jobs: Jobs
    readings: PrefectReadings
    event_stream: EventStream
    outbox: Outbox
    submission: Submission
    direct: DirectPages
    budget: BudgetWatch
    large_bodies: LargeBodies
    results: ResultIndex
    conversions: Conversions
    views: PageViews
    previews: Previews
    reviews: Reviews
    decisions: DecisionReports
    books: BookIndex
    book_views: BookViews
    book_reviews: BookReviews
    backfills: BackfillWork
    batches: BatchRuns


def state_of(connection: HTTPConnection) -> GatewayState:
    """Dependency: the state of the gateway that was called."""
    state: GatewayState = connection.app.state.gateway
    return state


State = Annotated[GatewayState, Depends(state_of)]
