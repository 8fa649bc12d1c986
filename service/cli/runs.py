"""Pages and books as runs of Prefect, for the commands of the library."""

import asyncio
import logging

import typer

from panelworks.books.backfill import Backfill
from panelworks.domain.books import BackfillSummary
from panelworks.domain.request import PageRequest
from panelworks.domain.result import PageResult
from panelworks.errors import PanelworksError
from panelworks.page import pipeline
from service.cli import administration, operations, state
from service.prefect_server import apply_prefect_defaults, as_server_error, check_server, find_server_url

logger = logging.getLogger(__name__)


class PrefectPipeline:
    """Implements `panelworks.cli.pipeline.Pipeline`. Prefect is imported when a page or an archive is processed."""

    def __init__(self) -> None:
        self.commands = typer.Typer()
        self.commands.add_typer(operations.app)
        self.commands.add_typer(state.app)
        self.commands.add_typer(administration.keys, name="keys")
        self.commands.add_typer(administration.pools, name="pools")
        self.commands.add_typer(administration.schedules, name="schedule")

    def find_server_url(self) -> str | None:
        return find_server_url()

    def check_server(self) -> str:
        return check_server()

    def as_server_error(self, error: Exception) -> PanelworksError | None:
        return as_server_error(error)

    def use_s3_blocks(self) -> None:
        apply_prefect_defaults()
        find_server_url()
        import orchestration  # noqa: F401 - it registers itself with the storage

    def enhance(self, request: PageRequest) -> PageResult:
        apply_prefect_defaults()
        from flows.enhance_page import enhance_page

        try:
            result: PageResult = asyncio.run(enhance_page(**request.to_parameters()))
            return result
        except PanelworksError as error:
            return pipeline.failed(request, error)
        except Exception as error:
            unavailable = as_server_error(error)
            if unavailable is not None:
                return pipeline.failed(request, unavailable)
            logger.exception("the flow of job %s failed unexpectedly", request.job_id)
            return pipeline.failed(request, error)

    def backfill(self, backfill: Backfill, until: str | None) -> BackfillSummary:
        """Books go to the workers of the configured Prefect server if it has the deployment and a worker; else they are
        processed here.
        """
        apply_prefect_defaults()
        from flows.backfill import backfill as run_backfill
        from orchestration.book_runs import workers_are_online

        here = not (find_server_url() and check_server() and workers_are_online())
        return run_backfill(
            backfill.archive,
            backfill.out,
            backfill.options,
            until=until,
            budget=backfill.budget,
            force=backfill.force,
            here=here,
        )
