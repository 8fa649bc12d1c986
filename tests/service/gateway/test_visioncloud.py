"""VisionCloud's upload as the seed describes it, against a bucket."""

from datetime import datetime
from pathlib import Path

import boto3
import pytest
from PIL import Image

from panelworks.settings import Settings, get_settings
from service.gateway.images import object_url
from tests.pages import drawn, file_of
from tests.service.gateway.conftest import Open

FIELDS = {
    "original_key", "status", "folder", "s3_url", "quality_score", "upscale_scale", "processed_at",
}  # fmt: skip


def test_an_upload_is_answered_as_in_the_seed(gateway: Open, bucket: str, s3_endpoint: str) -> None:
    client = gateway(**_of_bucket())
    page = file_of(Image.fromarray(drawn(seed=31).pixels))
    # Prefect is unavailable here: the direct entry point computes the result that the upload finds.
    assert client.post("/api/pages", files={"image": ("my page.png", page)}).status_code == 200
    answer = client.post("/api/images/upload", files={"file": ("my page.png", page)})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert set(body) == {"success", "message", "result"} and body["success"] is True
    result = body["result"]
    assert set(result) == FIELDS
    assert (result["original_key"], result["status"], result["folder"]) == (
        "my page.png", "success", "upscaled",
    )  # fmt: skip
    assert result["upscale_scale"] == 2 and 0 < result["quality_score"] < 1
    assert datetime.fromisoformat(result["processed_at"])
    address = f"{s3_endpoint}/{bucket}/upscaled/"
    assert result["s3_url"].startswith(address)
    key = result["s3_url"].removeprefix(f"{s3_endpoint}/{bucket}/")
    stored = boto3.client("s3", endpoint_url=s3_endpoint).get_object(Bucket=bucket, Key=key)
    assert stored["Body"].read(4) == b"\x89PNG"


def test_a_file_that_cannot_be_decoded_is_kept_for_review(gateway: Open, bucket: str) -> None:
    client = gateway(**_of_bucket())
    answer = client.post("/api/images/upload", files={"file": ("notes.png", b"no picture")})
    body = answer.json()
    assert (answer.status_code, body["success"]) == (200, False)
    assert set(body["result"]) == FIELDS
    assert (body["result"]["status"], body["result"]["folder"]) == ("error", "couldn't_upscale")
    listed = boto3.client("s3", endpoint_url=get_settings().s3_endpoint).list_objects_v2(Bucket=bucket)
    stored = [one["Key"] for one in listed["Contents"] if one["Key"].startswith("couldn't_upscale/")]
    assert len(stored) == 1 and stored[0].startswith("couldn't_upscale/notes-")


def _of_bucket() -> dict[str, object]:
    settings = get_settings()
    return {
        "out": f"s3://{settings.s3_bucket}",
        "s3_bucket": settings.s3_bucket,
        "s3_endpoint": settings.s3_endpoint,
    }


@pytest.mark.parametrize(
    ("changes", "address"),
    [
        ({}, "https://comics.s3.amazonaws.com/couldn%27t_upscale/a%20b.png"),
        (
            {"s3_region": "eu-west-1"},
            "https://comics.s3.eu-west-1.amazonaws.com/couldn%27t_upscale/a%20b.png",
        ),
        ({"s3_endpoint": "https://minio:9000/"}, "https://minio:9000/comics/couldn%27t_upscale/a%20b.png"),
    ],
)
def test_objects_have_an_address(settings: Settings, changes: dict[str, str], address: str) -> None:
    changed = settings.model_copy(update=changes)
    assert object_url("s3://comics/couldn't_upscale/a b.png", changed) == address


def test_a_local_file_has_no_address_in_s3(settings: Settings, tmp_path: Path) -> None:
    assert object_url((tmp_path / "a.png").as_uri(), settings) is None
