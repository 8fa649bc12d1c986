"""The image, built once, and the services of compose.yaml in containers of it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.containers.engine import IMAGE, Engine, EngineUnavailable, find_obstacle, locked_engine
from tests.containers.stack import OURS, Stack
from tests.servers import ROOT

PLANTED_SECRET = "a-secret-that-no-image-contains"  # noqa: S105 - that is the test
REQUIRE = bool(os.environ.get("PANELWORKS_REQUIRE_CONTAINERS"))
"""Fail where no engine can run, instead of skipping."""


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    obstacle = find_obstacle()
    with ExitStack() as stack:
        if obstacle is None:
            try:
                engine = stack.enter_context(locked_engine())
            except EngineUnavailable as error:
                obstacle = str(error)
        if obstacle is not None:
            (pytest.fail if REQUIRE else pytest.skip)(obstacle)
        engine.make_bases()
        yield engine


@pytest.fixture(scope="session")
def image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of the image, built from a copy of the tracked files to which files with a secret were added."""
    context = tmp_path_factory.mktemp("context")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, tracked.stdout.split("\0")):
        if (ROOT / name).is_file():
            (context / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, context / name)
    for name in (".env", "deployments/.env", "panelworks/.env", ".git/config", ".prefect/profiles.toml"):
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_text(PLANTED_SECRET)
    extras = ("--build-arg", "EXTRAS=redis-messaging,otel")
    engine.build(context, *extras, tag=IMAGE, file=context / "deployments" / "Dockerfile", target="cpu")
    return IMAGE


@pytest.fixture(scope="session")
def compose_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compose")


@pytest.fixture(scope="session")
def stack(engine: Engine, image: str, compose_folder: Path) -> Iterator[Stack]:
    """The running stack; its containers and volumes are removed at the end."""
    stack = Stack.with_new_secrets(engine, image, compose_folder)
    try:
        stack.start()
        yield stack
    finally:
        for service in OURS:  # pytest shows it if a test failed
            print(f"--- {service}", "\n".join(stack.compose.logs(service).splitlines()[-60:]), sep="\n")
        stack.compose("down", "--volumes", "--timeout", "1")
