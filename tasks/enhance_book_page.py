"""Task: compute one page of a book."""

from panelworks.books.pages import compute
from panelworks.domain.books import PageDone, PageToDo
from panelworks.page.engine import get_engine
from tasks.stage import stage


@stage("enhance-book-page", run_name="{todo.name}", timeout_seconds=None)
def enhance_book_page(todo: PageToDo, force: bool = False) -> PageDone:
    """Not cached by Prefect: the engine knows the page by its content, in whatever book it was."""
    return compute(get_engine(), todo, force=force)
