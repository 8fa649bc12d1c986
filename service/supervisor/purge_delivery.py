"""The supervisor reports replaced objects to CDNs that the processes which replaced them could not report."""

import asyncio
from typing import Final

from panelworks.page.purging import Purges
from service.supervisor.leadership import Leadership

_INTERVAL_SECONDS: Final = 60.0
"""Between two listings of the pending purges."""


async def report_purges(purges: Purges, leadership: Leadership) -> None:
    """Report pending purges once a minute while this supervisor leads, several at once. Ends at once without a CDN."""
    while purges.is_wanted:
        await asyncio.sleep(_INTERVAL_SECONDS)
        if leadership.leads:
            await asyncio.to_thread(purges.report_pending)
