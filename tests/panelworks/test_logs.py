"""Log lines as JSON."""

import io
import json
import logging
from typing import Any

import pytest

from panelworks.logs import JsonFormatter, add_log_ids, log_ids, start_logging
from panelworks.settings import Settings


@pytest.fixture
def logged() -> Any:
    """A logger, and a function that returns its lines as objects."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.Logger("panelworks.test", logging.DEBUG)
    logger.addHandler(handler)
    return logger, lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_record_is_one_json_object_a_line(logged: Any) -> None:
    logger, lines = logged
    logger.warning("page %s is skipped", "a\nb\u2028\ud800.png")
    try:
        raise ValueError("no picture")
    except ValueError:
        logger.exception("job failed")
    first, second = lines()
    assert first["message"] == "page a\nb\u2028\ud800.png is skipped"
    assert (first["level"], first["logger"]) == ("WARNING", "panelworks.test")
    assert first["time"].endswith("+00:00")
    assert "trace_id" not in first
    assert second["exception"].endswith("ValueError: no picture")


def test_lines_have_the_ids_of_their_block(logged: Any) -> None:
    logger, lines = logged
    with log_ids(job_id="j1", flow_run_id=None):
        logger.info("one")
        with log_ids():
            add_log_ids(job_id="j2")
            logger.info("two", extra={"request_id": "r"})
        logger.info("three")
    add_log_ids(job_id="ignored")
    logger.info("four", extra={"request_id": "-"})
    found = [{name: line[name] for name in line if name.endswith("_id")} for line in lines()]
    assert found == [{"job_id": "j1"}, {"job_id": "j2", "request_id": "r"}, {"job_id": "j1"}, {}]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_the_setting_chooses_the_format(log_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    root, ours = logging.getLogger(), logging.getLogger("panelworks.test_logs")
    before, level = root.handlers[:], root.level
    ours_level = logging.getLogger("panelworks").level
    root.handlers.clear()
    try:
        settings = Settings.model_validate({"log_format": log_format, "log_level": "INFO"})
        start_logging(settings, text_format="%(levelname)s %(message)s")
        ours.info("page a\nb")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        logging.getLogger("panelworks").setLevel(ours_level)
        logging.captureWarnings(False)
    line = stream.getvalue()
    assert line.count("\n") == 1
    if log_format == "text":
        assert line == "INFO page a\\x0ab\n"
    else:
        assert json.loads(line)["message"] == "page a\nb"
