"""Support for Prefect that is neither a flow nor a task.

Traces of runs are exported as soon as this package is imported, if a collector is set.

Storage finds the credentials of buckets in blocks of Prefect as soon as this package is imported.

Expected errors of the library are one sentence with a code. Prefect's engine logs a traceback with each error; here
the traceback of an expected error is removed, so that a traceback in the log of a run or worker means a fault.
"""

import logging
from typing import Final

from orchestration.s3_blocks import S3_BLOCKS
from orchestration.traces import start_traces
from panelworks.errors import PanelworksError
from panelworks.storage.s3 import use_bucket_clients

_LOGGERS: Final = ("prefect.flow_runs", "prefect.task_runs")


class _ExpectedErrorFilter(logging.Filter):
    """Removes the traceback from records of expected errors."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.exc_info, tuple) and isinstance(record.exc_info[1], PanelworksError):
            record.exc_info = record.exc_text = None
        return True


for _name in _LOGGERS:
    logging.getLogger(_name).addFilter(_ExpectedErrorFilter())

use_bucket_clients(S3_BLOCKS)
start_traces()
