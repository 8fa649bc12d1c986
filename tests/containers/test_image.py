"""The image: its size, its user, and what it does not contain."""

import json

import pytest

from tests.containers.conftest import PLANTED_SECRET
from tests.containers.engine import Engine

MAX_IMAGE_BYTES = 2_000_000_000
CONFINED = ("--rm", "--read-only", "--tmpfs", "/tmp:mode=1777", "--cap-drop", "ALL", "--network", "none")  # noqa: S108


def run(engine: Engine, image: str, *command: str) -> str:
    """Run a command in a container without rights and without a network."""
    return engine.docker("run", *CONFINED, image, *command)


def test_it_is_smaller_than_2_gb(engine: Engine, image: str) -> None:
    size = int(engine.docker("inspect", "--format", "{{.Size}}", image))
    print(f"image size: {size / 1e9:.2f} GB")
    assert size < MAX_IMAGE_BYTES


def test_it_contains_no_torch(engine: Engine, image: str) -> None:
    program = "import importlib.util as u; print([u.find_spec(name) for name in ('torch', 'nvidia')])"
    assert run(engine, image, "python", "-c", program).strip() == "[None, None]"


def test_a_page_is_enhanced_without_a_network_and_without_a_home(engine: Engine, image: str) -> None:
    printed = run(
        engine, image, "panelworks", "enhance", "examples/pages/colour-page.png", "--out", "/tmp/out", "--json"  # noqa: S108
    )  # fmt: skip
    (result,) = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert result["route"] == "upscaled"
    assert "openvino_telemetry" not in printed


def test_its_user_is_not_root_and_cannot_change_it(engine: Engine, image: str) -> None:
    assert run(engine, image, "id", "-u").strip() == "10001"
    found = run(
        engine, image, "find", "/app", "/venv", "/usr", "-writable", "-not", "-type", "l", "-print", "-quit"
    )  # fmt: skip
    assert found == ""


def test_it_contains_no_file_with_secrets(engine: Engine, image: str) -> None:
    found = engine.docker(
        "run", "--rm", "--user", "root", image,
        "sh", "-c", f"grep -rls '{PLANTED_SECRET}' /app /home /models /project /root /venv/bin; true",
    )  # fmt: skip
    assert found == ""


@pytest.mark.parametrize("command", ["history", "inspect"])
def test_neither_history_nor_environment_name_a_secret(engine: Engine, image: str, command: str) -> None:
    arguments = ("history", "--no-trunc") if command == "history" else ("inspect",)
    printed = engine.docker(*arguments, image)
    assert PLANTED_SECRET not in printed
    for name in ("S3_SECRET_ACCESS_KEY", "AUTH_STRING", "API_KEYS", "CALLBACK_SECRET"):
        assert f"{name}=" not in printed
