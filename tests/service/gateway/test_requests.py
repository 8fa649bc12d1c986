"""What the gateway takes, refuses and answers."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from PIL import Image

from panelworks.domain.request import PageRequest
from panelworks.settings import Settings
from service.gateway.access import Caller
from service.gateway.schemas import ProcessRequest
from service.gateway.submission import make_page_request
from tests.pages import drawn, file_of
from tests.requests import page_requests
from tests.service.gateway.conftest import Open


def page(seed: int = 1) -> bytes:
    return file_of(Image.fromarray(drawn(seed=seed).pixels))


@given(page_requests("http"))
def test_a_request_survives_http(request: PageRequest) -> None:
    origin = request.origin.model_copy(
        update={"callback": None}
    )  # callbacks are checked, see test_callbacks.py
    request = request.model_copy(update={"origin": origin})
    body = {
        "source": request.source,
        "out": request.out,
        "options": request.options.model_dump(exclude_defaults=True),
        "force": request.force,
        **origin.model_dump(include={"tool", "panel_id", "comic_id", "metadata"}),
    }
    parsed = ProcessRequest.model_validate_json(json.dumps(body))
    caller = Caller(name="key", owner=origin.owner, admin=False)
    received = make_page_request(parsed.source, parsed, Settings(), caller)
    assert received.model_copy(update={"job_id": request.job_id}) == request


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"source": "/etc/passwd"}, 403, "forbidden_path"),
        ({"source": "file:///etc/passwd"}, 403, "forbidden_path"),
        ({"source": "s3://other/page.png"}, 403, "forbidden_bucket"),
        ({"source": "https://169.254.169.254/"}, 403, "forbidden_address"),
        ({"source": "http://example.com/a.png"}, 403, "plain_http"),
        ({"source": "https://no-such-host.invalid/a.png"}, 422, "unknown_host"),
        ({"source": "data:,text"}, 415, "unsupported_format"),
        ({"source": "data:,x", "out": "/srv/x"}, 403, "forbidden_out"),
        ({"source": "data:,x", "options": {"model": "/srv/x.pth"}}, 403, "forbidden_model"),
        ({"source": "data:,x", "options": {"model": "aura-sr-v2"}}, 403, "forbidden_model"),
        ({"source": "data:,x", "options": {"scale": 9}}, 422, "bad_request"),
        ({"source": "data:,x", "preset": "no-such"}, 422, "unknown_preset"),
        ({"source": "data:,x", "opitons": {}}, 422, "bad_request"),
        ({"source": "stored:" + "0" * 64 + ".png/x"}, 404, "not_found"),
        ({"source": "stored:../../etc/passwd"}, 422, "bad_address"),
        ({}, 422, "bad_request"),
        ([], 422, "bad_request"),
    ],
)
def test_what_cannot_be_processed_has_a_code(gateway: Open, body: object, status: int, code: str) -> None:
    answer = gateway().post("/api/enhancement/process", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.json()["error"]["message"].endswith((".", ")")) or code == "bad_request"


def test_broken_bodies_are_refused(gateway: Open) -> None:
    client = gateway()
    plain = {"content-type": "application/json"}
    assert client.post("/api/enhancement/process", content=b"{", headers=plain).status_code == 422
    assert client.post("/api/enhancement/process", content=b"\xff\xfe", headers=plain).status_code == 422
    form = {"content-type": "multipart/form-data; boundary=x"}
    assert client.post("/api/enhancement/process", content=b"no form", headers=form).status_code in (400, 422)
    assert client.post("/api/pages", content=b"", headers=form).status_code in (400, 422)
    wrong_field = client.post("/api/pages", files={"picture": ("p.png", page())})
    assert wrong_field.json()["error"]["code"] == "bad_request"


def test_a_body_is_cut_off_while_it_streams(gateway: Open) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        while sent < 50_000_000:
            sent += 100_000
            yield bytes(100_000)

    client = gateway(max_upload_bytes=1_000_000)
    answer = client.post(
        "/api/enhancement/process",
        content=endless(),
        headers={"content-type": "multipart/form-data; boundary=x"},
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    small = gateway(max_source_bytes=1000).post("/api/pages", files={"image": ("p.png", page())})
    assert (small.status_code, small.json()["error"]["code"]) == (413, "too_large")


def test_a_page_in_is_a_page_out(gateway: Open) -> None:
    client = gateway()
    for cached in ("false", "true"):
        answer = client.post("/api/pages", files={"image": ("p.png", page(2))})
        assert answer.status_code == 200, answer.text
        assert (answer.headers["x-panelworks-route"], answer.headers["x-panelworks-cached"]) == (
            "upscaled",
            cached,
        )
        with Image.open(io.BytesIO(answer.content)) as picture:
            assert picture.size == (320, 400)
    text = client.get("/metrics").text
    assert 'panelworks_pages_total{cached="false",route="upscaled"} 1.0' in text
    assert 'panelworks_cache_requests_total{answer="hit"} 1.0' in text
    assert 'panelworks_stage_seconds_count{stage="enhance"} 1.0' in text


def test_what_is_not_ready_or_refused_comes_back_as_it_was(gateway: Open) -> None:
    client, data = gateway(), page(3)
    late = client.post("/api/pages?deadline=0.001", files={"image": ("p.png", data)})
    assert (late.status_code, late.content) == (200, data)
    assert late.headers["x-panelworks-route"] == "original"
    error = client.post("/api/pages?deadline=0.001&on_failure=error", files={"image": ("p.png", page(4))})
    assert (error.status_code, error.json()["error"]["code"]) == (503, "too_slow")
    broken = client.post("/api/pages", files={"image": ("p.png", data[:-200])})
    assert (broken.status_code, broken.content) == (200, data[:-200])
    assert broken.headers["x-panelworks-error"].startswith("truncated")
    text = client.get("/metrics").text
    assert 'generation_failure_total{code="truncated",fault="input"} 1.0' in text
    assert 'generation_failure_total{code="too_slow",fault="temporary"} 2.0' in text
    unreadable = client.post("/api/pages", files={"image": ("p.png", b"text")})
    assert (unreadable.status_code, unreadable.json()["error"]["code"]) == (415, "unsupported_format")


def test_a_page_that_the_server_cannot_take_is_no_fault_of_the_page(gateway: Open, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("in the way of the pages")
    answer = gateway().post("/api/pages?on_failure=error", files={"image": ("p.png", page(3))})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "not_writable")
    assert str(tmp_path) not in answer.text


def test_without_prefect_jobs_are_accepted_and_stay_queued(gateway: Open) -> None:
    client = gateway()
    answer = client.post("/api/enhancement/process", files={"file": ("p.png", page(5))})
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert client.get(answer.json()["status_url"]).json()["status"] == "queued"
    assert client.get("/api/enhancement").status_code == 503
    health = client.get("/api/health")
    assert (health.status_code, health.json()["status"]) == (503, "unhealthy")
    assert health.json()["components"]["prefect"] == "down"


@pytest.mark.parametrize(
    "format", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "JPEG2000", "TGA", "PPM", "AVIF"]
)
def test_every_format_that_is_read_can_be_uploaded(gateway: Open, format: str) -> None:
    data = file_of(Image.fromarray(drawn(seed=41).pixels), format)
    answer = gateway().post("/api/enhancement/process", files={"file": ("page", data)})
    assert answer.status_code == 202, answer.text
    assert answer.json()["status"] == "queued"


@pytest.mark.parametrize(("foreground", "status"), [(255, 202), (270, 202), (271, 422)])
def test_thresholds_of_matting_are_those_of_rembg(gateway: Open, foreground: int, status: int) -> None:
    options = {"remove_background": False, "matting": {"foreground": foreground}}
    form = {"options": json.dumps(options)}
    answer = gateway().post("/api/enhancement/process", files={"file": ("page.png", page(42))}, data=form)
    assert answer.status_code == status, answer.text


def test_a_batch_tells_of_each_picture(gateway: Open) -> None:
    client = gateway()
    done = client.post("/api/pages", files={"image": ("p.png", page(6))})
    assert done.status_code == 200
    answer = client.post(
        "/api/images/upload/batch", files=[("files", ("good.png", page(6))), ("files", ("bad.png", b"text"))]
    ).json()
    assert answer["success"] is False
    assert [one["success"] for one in answer["results"]] == [True, False]
    result = answer["results"][0]["result"]
    assert (result["original_key"], result["status"], result["folder"], result["upscale_scale"]) == (
        "good.png", "success", "upscaled", 2,
    )  # fmt: skip
    picture = client.get(result["s3_url"])
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/png")


def test_request_ids_come_back_if_they_are_harmless(gateway: Open) -> None:
    client = gateway()
    assert client.get("/api/health", headers={"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"
    for bad in ("a b", "x" * 65, "a;b", "a/b"):
        assert client.get("/api/health", headers={"X-Request-ID": bad}).headers["x-request-id"] != bad


def test_the_documentation_names_every_door(gateway: Open) -> None:
    paths = gateway().get("/openapi.json").json()["paths"]
    assert {
        "/api/enhancement", "/api/enhancement/process", "/api/enhancement/status/{job_id}",
        "/api/enhancement/{job_id}", "/api/enhancement/{job_id}/re-enhance", "/api/images/upload",
        "/api/images/upload/batch", "/api/pages", "/api/generation/events", "/api/health", "/metrics",
    } <= set(paths)  # fmt: skip


def test_a_page_of_any_name_is_found_where_it_was_delivered(gateway: Open) -> None:
    client, data = gateway(), page(7)
    for name in ("my page.png", "ページ 1.png", "a'b.png"):
        answer = client.post("/api/pages?variant=master", files={"image": (name, data)})
        assert answer.status_code == 200, name
        with Image.open(io.BytesIO(answer.content)) as picture:
            assert picture.size == (320, 400)


@pytest.mark.parametrize("job_id", ["comic1/panel3", "a b", "x" * 201, "ä", ""])
def test_job_ids_of_events_fit_into_addresses(gateway: Open, job_id: str) -> None:
    answer = gateway().post("/api/generation/events", json={"source": "data:,x", "job_id": job_id})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "bad_request")
