"""Requests for cached pages at a fixed rate: latencies, errors, and the memory of the gateway.

Example, while `panelworks up` runs:

    python -m benchmarks.gateway_load --gateway http://127.0.0.1:8200 --rate 200 --requests 2000
"""

import argparse
import asyncio
import json
import statistics
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

_SINGLE_REQUESTS = 50
_SAMPLE = Path(__file__).parents[1] / "examples" / "pages" / "colour-page.png"


def main() -> None:
    """Process the sample page, then request it repeatedly."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gateway", default="http://127.0.0.1:8200")
    parser.add_argument("--rate", type=float, default=200, help="requests per second")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--page", type=Path, default=_SAMPLE)
    given = parser.parse_args()
    print(
        json.dumps(
            asyncio.run(measure(given.gateway, given.rate, given.requests, given.page.read_bytes())), indent=2
        )
    )


async def measure(gateway: str, rate: float, requests: int, data: bytes) -> dict[str, Any]:
    """Measure `requests` uploads of a cached page."""
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
    async with httpx.AsyncClient(base_url=gateway, timeout=120, limits=limits) as client:
        (await _post(client, data, wait=100)).raise_for_status()
        single = [await _timed(client, data) for _ in range(_SINGLE_REQUESTS)]
        process = _gateway_process(gateway)
        before, cpu_before = process.memory_info().rss, process.cpu_times()
        began = time.perf_counter()
        tasks = []
        for number in range(requests):
            tasks.append(asyncio.create_task(_timed(client, data)))
            await asyncio.sleep(max(0.0, began + (number + 1) / rate - time.perf_counter()))
        under_load = await asyncio.gather(*tasks)
        seconds, after, cpu = time.perf_counter() - began, process.memory_info().rss, process.cpu_times()
    return {
        "page_bytes": len(data),
        "one_at_a_time_ms": _figures(single),
        "under_load_ms": _figures(under_load),
        "rate_asked": rate,
        "rate_answered": round(requests / seconds, 1),
        "errors": sum(status != 200 for status, _ in under_load),
        "gateway_cores": round((cpu.user + cpu.system - cpu_before.user - cpu_before.system) / seconds, 2),
        "gateway_mib_before": round(before / 2**20, 1),
        "gateway_mib_after": round(after / 2**20, 1),
    }


async def _post(client: httpx.AsyncClient, data: bytes, wait: int = 0) -> httpx.Response:
    return await client.post(f"/api/enhancement/process?wait={wait}", files={"file": ("page.png", data)})


async def _timed(client: httpx.AsyncClient, data: bytes) -> tuple[int, float]:
    began = time.perf_counter()
    try:
        status = (await _post(client, data)).status_code
    except httpx.HTTPError:
        status = 0
    return status, 1000 * (time.perf_counter() - began)


def _figures(answers: list[tuple[int, float]]) -> dict[str, float]:
    times = sorted(milliseconds for _, milliseconds in answers)
    share = statistics.quantiles(times, n=100)
    return {"p50": round(share[49], 1), "p99": round(share[98], 1), "max": round(times[-1], 1)}


def _gateway_process(gateway: str) -> psutil.Process:
    port = httpx.URL(gateway).port
    for connection in psutil.net_connections("tcp"):
        if (
            connection.status == psutil.CONN_LISTEN
            and connection.laddr
            and connection.laddr[1] == port
            and connection.pid
        ):
            return psutil.Process(connection.pid)
    raise SystemExit(f"nothing listens on port {port} of this machine")


if __name__ == "__main__":
    main()
