"""Task: tell the callback of a job how it ended."""

from panelworks.callbacks import deliver_callback
from panelworks.records import PageRequest, PageResult
from panelworks.settings import get_settings
from tasks.stage import stage


@stage("notify", timeout_seconds=120)
def notify(request: PageRequest, result: PageResult) -> None:
    """One signed POST, retried while the receiver is away."""
    deliver_callback(request, result, get_settings())
