"""Renting pods from an account that behaves like RunPod's."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest

from deployments.runpod.api import NoCapacity, Pod, PodRequest, Refused, RunPodApi, pod_name, read_pod
from deployments.runpod.lease import TooExpensive, rent
from tests.deployments.runpod.standin import KEY, StandIn, complaints

Found = TypeVar("Found")
POOL = UUID(int=7)
TYPES = ("NVIDIA GeForce RTX 4090", "NVIDIA L4", "NVIDIA A40")


def request(**other: Any) -> PodRequest:
    fields: dict[str, Any] = {
        "name": pod_name(POOL, uuid4(), 0),
        "image": "registry.example/panelworks:cuda",
        "command": ("sleep", "60"),
        "env": {"PREFECT_API_URL": "https://prefect.example/api"},
        "gpu_type": TYPES[0],
        "gpu_count": 1,
        "cloud": "SECURE",
        "spot": False,
        "min_cuda": "13.0",
        "disk_gb": 20,
        "network_volume": None,
        "volume_path": "/models",
        "registry_credentials": None,
        "data_centers": (),
    }
    return PodRequest(**{**fields, **other})


def with_api(runpod: StandIn, ask: Callable[[RunPodApi], Awaitable[Found]], key: str = KEY) -> Found:
    async def run() -> Found:
        url, spot_url = f"{runpod.url}/v2", f"{runpod.url}/v1"
        async with RunPodApi(key, url=url, spot_url=spot_url, retry_seconds=20) as api:
            return await ask(api)

    return asyncio.run(run())


async def always() -> bool:
    return True


async def rented(api: RunPodApi, wanted: PodRequest, **other: Any) -> Pod | None:
    limits: dict[str, Any] = {
        "max_price": None,
        "timeout_seconds": 1,
        "interval_seconds": 0.2,
        "is_wanted": always,
        **other,
    }
    return await rent(api, wanted, limits.pop("gpu_types", TYPES), **limits)


FULL = {
    "network_volume": "vol123",
    "registry_credentials": "reg123",
    "data_centers": ("EU-RO-1",),
    "gpu_type": "NVIDIA L4",
}


@pytest.mark.parametrize("other", [{}, FULL])
def test_requests_are_as_published(other: dict[str, Any]) -> None:
    assert complaints("v2_create", request(**other).body()) == []
    assert complaints("v1_create", request(**other, spot=True).spot_body()) == []


def test_a_spot_pod_rents_no_volume() -> None:
    assert request(spot=True).spot_body()["volumeInGb"] == 0


@pytest.mark.parametrize(
    "wrong", [{"name": ""}, {"image": ""}, {"command": ()}, {"gpu_count": 0}, {"disk_gb": 0}]
)
def test_an_invalid_request_is_not_sent(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        request(**wrong)


@pytest.mark.parametrize(
    ("answer", "cost", "status", "year"),
    [
        ({"id": "a", "name": "n", "status": "STARTING", "cost": 0.4, "createdAt": "2026-08-20T06:16:19Z"}, 0.4, "STARTING", 2026),
        ({"id": "a", "name": "n", "desiredStatus": "EXITED", "costPerHr": "0.74"}, 0.74, "EXITED", None),
        ({"id": "a", "createdAt": "2026-08-20 06:16:19.436 +0000 UTC"}, 0, "PROVISIONING", 2026),
        ({"id": "a", "createdAt": "yesterday", "cost": None}, 0, "PROVISIONING", None),
    ],
)  # fmt: skip
def test_answers_are_read_leniently(
    answer: dict[str, Any], cost: float, status: str, year: int | None
) -> None:
    pod = read_pod(answer)
    assert (pod.cost_per_hour, pod.status, pod.created and pod.created.year) == (cost, status, year)


def test_a_pod_names_its_run() -> None:
    run = uuid4()
    assert read_pod({"id": "a", "name": pod_name(POOL, run, 3)}).purpose == (run, 3)
    assert read_pod({"id": "a", "name": "another pod"}).purpose is None


def test_the_first_type_that_is_free_is_rented(runpod: StandIn) -> None:
    runpod.free = {"NVIDIA A40": 0.4, "NVIDIA L4": 0.43}
    pod = with_api(runpod, lambda api: rented(api, request()))
    assert pod is not None and pod.cost_per_hour == 0.43
    assert [body["gpu"]["id"] for body in runpod.created] == ["NVIDIA L4"]
    assert runpod.refused == []


def test_a_type_that_costs_too_much_is_skipped(runpod: StandIn) -> None:
    runpod.free = {TYPES[0]: 0.69, "NVIDIA L4": 0.43}
    with_api(runpod, lambda api: rented(api, request(), max_price=0.5))
    assert [body["gpu"]["id"] for body in runpod.created] == ["NVIDIA L4"]


def test_a_pod_that_costs_more_than_its_catalogue_price_is_ended(runpod: StandIn) -> None:
    runpod.free, runpod.promised = {TYPES[0]: 0.69}, {TYPES[0]: 0.3}
    with pytest.raises(TooExpensive, match=r"at most 0\.50 USD"):
        with_api(runpod, lambda api: rented(api, request(), max_price=0.5, gpu_types=TYPES[:1]))
    assert len(runpod.created) == 1 and not runpod.pods


def test_renting_fails_after_waiting_for_a_free_gpu(runpod: StandIn) -> None:
    runpod.free = {}
    with pytest.raises(NoCapacity, match="NVIDIA L4"):
        with_api(runpod, lambda api: rented(api, request()))


def test_a_pod_whose_answer_was_lost_is_found_and_not_rented_twice(runpod: StandIn) -> None:
    runpod.silent_creates = 1
    pod = with_api(runpod, lambda api: rented(api, request(), timeout_seconds=10))
    assert pod is not None and list(runpod.pods) == [pod.id] and len(runpod.created) == 1


def test_an_existing_pod_is_used(runpod: StandIn) -> None:
    wanted = request()
    first = with_api(runpod, lambda api: rented(api, wanted))
    again = with_api(runpod, lambda api: rented(api, wanted))
    assert first == again and len(runpod.created) == 1


def test_a_pod_that_is_not_wanted_any_more_is_not_rented(runpod: StandIn) -> None:
    async def never() -> bool:
        return False

    assert with_api(runpod, lambda api: rented(api, request(), is_wanted=never)) is None
    assert runpod.created == []


def test_retry_after_is_respected(runpod: StandIn) -> None:
    runpod.busy_answers = 2
    began = time.monotonic()
    assert with_api(runpod, lambda api: api.list_pods()) == []
    assert time.monotonic() - began >= 2


def test_a_wrong_key_is_reported_without_retries(runpod: StandIn) -> None:
    with pytest.raises(Refused, match="401"):
        with_api(runpod, lambda api: api.list_pods(), key="wrong")


def test_a_spot_pod_is_rented_by_version_1(runpod: StandIn) -> None:
    pod = with_api(runpod, lambda api: rented(api, request(spot=True)))
    assert pod is not None and runpod.created[0]["interruptible"] is True and runpod.refused == []


def test_a_retired_version_1_is_reported_with_advice(runpod: StandIn) -> None:
    runpod.spot_retired = True
    with pytest.raises(Refused, match="disable `spot`"):
        with_api(runpod, lambda api: rented(api, request(spot=True)))


def test_ending_an_ended_pod_is_no_error(runpod: StandIn) -> None:
    async def twice(api: RunPodApi) -> Pod | None:
        pod = await rented(api, request())
        assert pod is not None
        await api.delete(pod.id)
        await api.delete(pod.id)
        return await api.read_pod(pod.id)

    assert with_api(runpod, twice) is None
