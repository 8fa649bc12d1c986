"""Hostile JSON and parameters at every entry point of the gateway: a 4xx with a code, never a 5xx."""

import base64
import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from panelworks.domain.fields import MAX_INTEGER
from service.gateway import bodies, progress
from service.gateway.bodies import parse_request
from tests.service.gateway.conftest import Open

HOSTILE = {
    "65 bits": str(2**64),
    "4,000 digits": "9" * 4000,
    "NaN": "NaN",
    "infinite": "1e999",
    "surrogate": r'"\ud800"',
    "NUL": r'"\u0000"',
    "depth 900": "[" * 900 + "]" * 900,
    "instruction": '{"__prefect_kind": "jinja", "template": "{{ 3**(4*10**7) }}"}',
    "2 MB": '"' + "x" * 2_000_000 + '"',
}
JSON = {"content-type": "application/json"}
ENTRIES = ["/api/enhancement/process", "/api/generation/events", "/api/enhancement/x/re-enhance"]
FORMS = {
    "/api/enhancement/process": "file",
    "/api/images/upload": "file",
    "/api/images/upload/batch": "files",
    "/api/pages": "image",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_values_are_refused_everywhere(gateway: Open, name: str) -> None:
    client, value = gateway(rate_limit="1000/minute"), HOSTILE[name]
    codes = ("bad_json", "too_large", "bad_request")
    for path in ENTRIES:
        for body in ('{"source": "data:,x", "metadata": {"deep": %s}}', '{"options": {"model": %s}}', "%s"):
            answer = client.post(path, content=body % value, headers=JSON)
            assert 400 <= answer.status_code < 500, (path, body, answer.text)
            assert answer.json()["error"]["code"] in codes
    for path, field in FORMS.items():
        for given in ("options", "metadata", "inpaint"):
            data = {given: f'{{"deep": {value}}}'}
            answer = client.post(path, data=data, files={field: ("p.png", b"x")})
            assert 400 <= answer.status_code < 500, (path, given, answer.text)
            assert answer.json()["error"]["code"] in codes


@pytest.mark.parametrize(
    "query",
    [
        "offset=99999999999999999999", "offset=1000001", "offset=-1", "limit=99999999999999999999",
        "limit=201", "limit=0", "tool=%00", f"tool={'x' * 5000}", "status=none",
    ],
)  # fmt: skip
def test_every_parameter_of_a_list_has_a_range(gateway: Open, query: str) -> None:
    answer = gateway().get(f"/api/enhancement?{query}")
    assert (answer.status_code, answer.json()["error"]["code"]) in [(422, "bad_request"), (422, "bad_json")]


@pytest.mark.parametrize("query", ["wait=nan", "wait=inf", "wait=1e999", f"wait={'9' * 5000}", "wait=-1"])
def test_waiting_has_a_range(gateway: Open, query: str) -> None:
    answer = gateway().post(f"/api/enhancement/process?{query}", json={"source": "data:,x"})
    assert answer.status_code == 422


@pytest.mark.parametrize("job_id", ["%00", "x" * 3000, "a%00b"])
def test_job_ids_in_addresses_are_checked(gateway: Open, job_id: str) -> None:
    client = gateway()
    assert client.get(f"/api/enhancement/status/{job_id}").status_code == 422
    assert client.delete(f"/api/enhancement/{job_id}").status_code == 422


def test_json_without_a_picture_has_a_limit_of_its_own(gateway: Open) -> None:
    sent = 0

    def endless() -> Any:
        nonlocal sent
        yield b"["
        while sent < 50_000_000:
            sent += 60_000
            yield b"[],[]," * 10_000

    answer = gateway().post("/api/enhancement/process", content=endless(), headers=JSON)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


def test_a_picture_in_json_is_not_counted_as_json() -> None:
    picture = "data:image/png;base64," + "A" * 3_000_000
    text = json.dumps({"source": picture, "metadata": {"page": 1}})
    assert parse_request(text.encode()) == {"source": picture, "metadata": {"page": 1}}
    assert parse_request(text.replace("/", "\\/").encode())["source"] == picture


@pytest.mark.parametrize(
    "body",
    [
        {"source": "data:,x", "metadata": {"a": "data:" + "A" * 300_000}},
        {"metadata": {"source": "data:" + "A" * 300_000}},
        {"source": "data:" + "A" * 300_000, "metadata": {"a": "x" * 300_000}},
        ["data:" + "A" * 300_000],
        {"source": "data:" + "A" * 300_000, "metadata": {"a": 2**63}},
        {"source": "data:" + "A" * 300_000 + '"'},
    ],
)
def test_a_picture_elsewhere_or_beside_hostile_values_is_refused(gateway: Open, body: Any) -> None:
    answer = gateway().post("/api/enhancement/process", json=body)
    assert 400 <= answer.status_code < 500


@pytest.mark.parametrize(
    "fields",
    [
        {"scale": "9"}, {"face": "perhaps"}, {"inpaint": '[{"left": 0}]'}, {"matting": '{"foreground": 271}'},
        {"options": "[]", "scale": "2"}, {"inpaint": json.dumps([{"left": MAX_INTEGER, "top": 0, "width": 1, "height": 1}])},
        {"denoise": "nan"}, {"opitons": "{}"},
    ],
)  # fmt: skip
def test_options_in_forms_are_checked_like_json(gateway: Open, fields: dict[str, str]) -> None:
    answer = gateway().post("/api/enhancement/process", data=fields, files={"file": ("p.png", b"x")})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "bad_request")


def test_a_picture_in_json_has_the_limit_of_a_picture(gateway: Open) -> None:
    """Before, JSON was kept and parsed up to the limit of an upload, and four bodies took 3.4 GB."""
    client = gateway(max_source_bytes=3_000_000, rate_limit="1000/minute")
    for size, code in ((4_500_000, "too_large"), (3_900_000, "bad_data_uri"), (4_000, "bad_data_uri")):
        answer = client.post(
            "/api/enhancement/process", json={"source": "data:image/png;base64," + "A" * size + "!"}
        )
        assert answer.json()["error"]["code"] == code, answer.text
        assert answer.status_code in (413, 422)


def test_followers_of_a_key_have_a_limit(gateway: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "MAX_FOLLOWERS", 0)
    address = f"ws://127.0.0.1:{gateway().base_url.port}/api/enhancement/progress/x"
    with connect(address) as socket, pytest.raises(ConnectionClosed) as closed:
        socket.recv(timeout=10)
    assert closed.value.rcvd is not None and closed.value.rcvd.code == progress.TOO_MANY


@pytest.mark.parametrize("character", ["\N{GRINNING FACE}", r"\ud83d\ude00", r"\u4e00"])
def test_a_large_picture_in_json_holds_only_ascii(gateway: Open, character: str) -> None:
    """Before, one wide character made Python hold 60 MiB of text in 240 MiB, three times."""
    body = '{"source": "data:image/png;base64,' + "A" * 300_000 + character + '"}'
    answer = gateway().post("/api/enhancement/process", content=body.encode(), headers=JSON)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "bad_data_uri")


def _noise(seed: int) -> str:
    """A picture that takes more than a mebibyte, as a data: address."""
    pixels = np.random.default_rng(seed).integers(0, 256, (700, 700, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def test_a_large_body_has_its_place_in_memory_only_until_its_picture_is_stored(
    gateway_with_prefect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, any number of bodies was decoded at the same time, and kept while their callers waited."""
    monkeypatch.setattr(bodies, "_LARGE_BODIES_IN_MEMORY", 1)
    client, path = gateway_with_prefect(), "/api/enhancement/process"
    for refused in ("data:image/png," + "%41" * 500_000, "data:image/png;base64," + "A" * 1_500_000 + "!"):
        assert client.post(path, json={"source": refused}).status_code in (415, 422)
    assert client.post(path, content=b"[" + b" " * 1_500_000, headers=JSON).status_code == 413
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.post, f"{path}?wait=60", json={"source": _noise(1)})
        assert client.post(path, json={"source": _noise(2)}).status_code == 202
        assert client.post("/api/generation/events", json={"source": _noise(3)}).status_code == 202
        assert client.post(path, json={"source": _noise(4)}).status_code == 202
        assert not waiting.done()
        for job in client.get("/api/enhancement").json()["jobs"]:
            client.delete(f"/api/enhancement/{job['job_id']}")
