"""Task: compute one page of a book."""

from orchestration.stage_tasks import retried_task
from panelworks.books.pages import compute
from panelworks.domain.books import PageDone, PageToDo
from panelworks.page.engine import get_engine


@retried_task("enhance-book-page", run_name="{todo.name}", timeout_seconds=None)
def enhance_book_page(todo: PageToDo, force: bool = False) -> PageDone:
    """Not cached by Prefect: the engine's result cache knows a page by its content, in any book."""
    return compute(get_engine(), todo, force=force)
