"""Commands in the process of the test, which start in no time."""

import logging
import subprocess
import sys
from collections.abc import Sequence

import pytest

from panelworks.cli.app import main


def run_here(*arguments: str) -> int:
    """Run a command of panelworks that reads no files; returns the exit code."""
    logger = logging.getLogger("panelworks")
    level = logger.level
    try:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
    finally:
        logger.setLevel(level)
    return int(str(ended.value.code))


def assert_command_exists(command: Sequence[str]) -> None:
    """Assert that a command of a container has the options that it is given."""
    program, *arguments = command
    if program == "panelworks":
        assert run_here(*arguments, "--help") == 0
        return
    assert program == "prefect"
    done = subprocess.run(
        [sys.executable, "-m", "prefect", *arguments, "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
