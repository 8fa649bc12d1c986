from pathlib import Path

import pytest

from panelworks.errors import Misconfigured
from panelworks.settings import get_settings


@pytest.mark.parametrize(
    ("name", "value", "field", "read"),
    [
        ("UPSCALE_SCALE", "1.5", "upscale_scale", 1.5),
        ("UPSCALE_SCALE", "auto", "upscale_scale", "auto"),
        ("PANELWORKS_UPSCALE_SCALE", "3", "upscale_scale", 3.0),
        ("QUALITY_THRESHOLD", "0.7", "quality_threshold", 0.7),
        ("MODEL_PATH", "/a:/b", "model_path", (Path("/a"), Path("/b"))),
        ("LOG_LEVEL", "debug", "log_level", "DEBUG"),
        ("PANELWORKS_MAX_PIXELS", "1000", "max_pixels", 1000),
        ("REDIS_URL", "", "redis_url", None),
        ("S3_ENDPOINT", "", "s3_endpoint", None),
    ],
)
def test_variables_are_read(
    name: str, value: str, field: str, read: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UPSCALE_SCALE")  # the short name of two has precedence
    monkeypatch.setenv(name, value)
    assert getattr(get_settings(), field) == read


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("QUALITY_THRESHOLD", "2"),
        ("DEVICE", "abacus"),
        ("UPSCALE_SCALE", "5"),
        ("LOG_LEVEL", "loud"),
        ("REDIS_URL", "localhost:6379"),
        ("S3_ENDPOINT", "localhost:9000"),
        ("PANELWORKS_TECHNICAL_THRESHOLD", "high"),
        ("PANELWORKS_PRICES", "runpod=cheap"),
        ("PANELWORKS_METRICS", "beauty"),
        ("PANELWORKS_FALLBACKS", "fp32,hope"),
    ],
)
def test_the_error_for_an_invalid_value_names_its_variable(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(Misconfigured, match=rf" {name}: "):
        get_settings()


def test_the_error_names_all_invalid_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVICE", "abacus")
    monkeypatch.setenv("PANELWORKS_MAX_PIXELS", "0")
    with pytest.raises(Misconfigured) as error:
        get_settings()
    assert "DEVICE: " in error.value.message
    assert "PANELWORKS_MAX_PIXELS: " in error.value.message


def test_the_default_destination(monkeypatch: pytest.MonkeyPatch) -> None:
    assert get_settings().default_out == "enhanced"
    monkeypatch.setenv("S3_BUCKET", "pages")
    get_settings.cache_clear()
    assert get_settings().default_out == "s3://pages"
    monkeypatch.setenv("PANELWORKS_OUT", "/somewhere")
    get_settings.cache_clear()
    assert get_settings().default_out == "/somewhere"
