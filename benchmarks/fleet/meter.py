"""Resources of the parts of a site: CPU seconds, memory, rows and bytes of the database."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import asyncpg
import psutil

_TABLES: Final = (
    "flow_run",
    "flow_run_state",
    "task_run",
    "task_run_state",
    "events",
    "event_resources",
    "log",
    "artifact",
)


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU seconds of processes and all their descendants, including ended ones."""
    return sum(_family_seconds(pid) for pid in pids)


def resident_bytes(pids: Iterable[int]) -> int:
    """Memory of processes and their descendants."""
    return sum(one.memory_info().rss for pid in pids for one in _family(pid))


def _family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _family_seconds(pid: int) -> float:
    seconds = 0.0
    for one in _family(pid):
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:  # now counted by its parent
            continue
        seconds += times.user + times.system + times.children_user + times.children_system
    return seconds


@dataclass(frozen=True)
class Census:
    """State of the database at one moment."""

    bytes: int
    tables: dict[str, int]
    """Bytes of the growing tables, including indexes."""
    rows: dict[str, int]


def census(url: str) -> Census:
    """Count the database of an SQLAlchemy URL."""
    return asyncio.run(_census(url.replace("+asyncpg", "")))


async def _census(url: str) -> Census:
    connection = await asyncpg.connect(url)
    try:
        size = await connection.fetchval("SELECT pg_database_size(current_database())")
        tables = {
            name: await connection.fetchval("SELECT pg_total_relation_size($1::regclass)", name)
            for name in _TABLES
        }
        rows = {name: await connection.fetchval(f"SELECT count(*) FROM {name}") for name in _TABLES}  # noqa: S608 - constant names
    finally:
        await connection.close()
    return Census(int(size), tables, rows)


def rate(url: str) -> float:
    """Pages per second while all workers were busy: from the first tenth of the pages to the last."""
    return asyncio.run(_rate(url.replace("+asyncpg", "")))


async def _rate(url: str) -> float:
    connection = await asyncpg.connect(url)
    try:
        found = await connection.fetch(
            "SELECT end_time FROM task_run WHERE end_time IS NOT NULL AND name LIKE '%.png' ORDER BY end_time"
        )
    finally:
        await connection.close()
    first, last = len(found) // 10, len(found) * 9 // 10
    return float((last - first) / (found[last]["end_time"] - found[first]["end_time"]).total_seconds())
