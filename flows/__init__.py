"""One Prefect flow a file: the story of a page, conducted with tasks and subflows.

Errors that the library foresees are one sentence with a code. The engine of Prefect logs a traceback with each; here
they are logged without, so that the log of a run and that of its worker show a traceback only where there is a fault.
"""

import logging
from typing import Final

from panelworks.errors import PanelworksError

_LOGGERS: Final = ("prefect.flow_runs", "prefect.task_runs")


class _WithoutTraceback(logging.Filter):
    """Takes the traceback from records of errors that the library foresees."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.exc_info, tuple) and isinstance(record.exc_info[1], PanelworksError):
            record.exc_info = record.exc_text = None
        return True


for _name in _LOGGERS:
    logging.getLogger(_name).addFilter(_WithoutTraceback())
