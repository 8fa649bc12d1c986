"""A worker that waits for nothing before it ends a cancelled run or schedules one again: `... impatient POOL NAME`."""

import asyncio
import sys
from datetime import timedelta

from deployments.ecs import worker


def main(pool: str, name: str) -> None:
    """Serve a pool until a signal arrives."""
    worker.UNRESPONSIVE_AGE = worker.NEVER_STARTED_AGE = timedelta(0)
    asyncio.run(worker.EcsWorker(work_pool_name=pool, work_queues=["none"], name=name).start())


if __name__ == "__main__":
    main(*sys.argv[1:])
