"""Functions in a child process with limits."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from panelworks.archives.sandbox import Sandbox, SandboxPool
from panelworks.archives.sandbox_child import Limits
from panelworks.errors import Misconfigured, Rejected

LIMITS = Limits(seconds=20, memory_bytes=300_000_000, output_bytes=1 << 20)
HERE = "tests.sandboxed"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(LIMITS) as opened:
        yield opened


def test_values_come_back_as_they_went(sandbox: Sandbox) -> None:
    values = [
        None,
        True,
        1,
        2.5,
        "第1話 \udce9",
        b"\x00bytes",
        [1, [b"deep"]],
        {"bytes": 1, "dict": {"a": b"b"}},
    ]
    assert sandbox.call(f"{HERE}:echo", *values) == values


def test_one_child_serves_many_calls_and_starts_without_the_package(sandbox: Sandbox) -> None:
    first, second = (sandbox.call(f"{HERE}:process_and_parent") for _ in range(2))
    assert first == second
    assert first[0] != os.getpid()
    assert first[1] == os.getpid()
    with pytest.raises(Rejected, match="AttributeError"):  # the package is empty there
        sandbox.call("panelworks:enhance_picture")


def test_our_errors_come_back_as_they_are(sandbox: Sandbox) -> None:
    with pytest.raises(Misconfigured, match="A library is missing") as raised:
        sandbox.call(f"{HERE}:misconfigured")
    assert raised.value.code == "missing_library"
    with pytest.raises(Rejected, match="ZeroDivisionError") as rejected:
        sandbox.call("operator:truediv", 1, 0)
    assert rejected.value.code == "damaged"
    assert sandbox.kills == 0


@pytest.mark.parametrize(
    ("function", "argument", "code", "sentence"),
    [
        ("allocate", 1 << 30, "document_too_costly", "more than 300 MB of memory"),
        ("touch_memory_outside_python", 1 << 30, "parser_crashed", "may have needed more than 300 MB"),
        ("sleep", 60, "document_too_costly", "longer than 0.5 seconds"),
        ("spin", None, "document_too_costly", "longer than 0.5 seconds"),
        ("echo", b"x" * (2 << 20), "document_too_costly", "larger than 1 MB"),
        ("echo", "x" * (2 << 20), "document_too_costly", "larger than 1 MB"),
    ],
)
def test_a_limit_refuses_and_the_next_call_works(
    function: str, argument: object, code: str, sentence: str
) -> None:
    seconds = 0.5 if function in ("sleep", "spin") else LIMITS.seconds
    with Sandbox(Limits(seconds, LIMITS.memory_bytes, LIMITS.output_bytes)) as sandbox:
        arguments = () if argument is None else (argument,)
        with pytest.raises(Rejected, match=sentence) as rejected:
            sandbox.call(f"{HERE}:{function}", *arguments)
        assert rejected.value.code == code
        assert sandbox.call(f"{HERE}:echo", 1) == [1]


def test_a_crash_is_named_and_counted(sandbox: Sandbox) -> None:
    with pytest.raises(Rejected, match="SIGABRT") as rejected:
        sandbox.call("os:abort")
    assert rejected.value.code == "parser_crashed"
    with pytest.raises(Rejected, match="exit code 3"):
        sandbox.call("os:_exit", 3)
    assert sandbox.kills == 2


def test_a_child_writes_no_file_and_knows_no_secret(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY", "secret")
    with pytest.raises(Rejected):
        sandbox.call(f"{HERE}:write_file", str(tmp_path / "file"))
    assert (tmp_path / "file").read_bytes() == b""
    assert sandbox.call(f"{HERE}:limits") == {"CORE": 0, "FSIZE": 0}
    assert "S3_SECRET_ACCESS_KEY" not in sandbox.call(f"{HERE}:environment")


def test_what_a_library_prints_is_no_reply(sandbox: Sandbox) -> None:
    assert sandbox.call(f"{HERE}:print_something") == "result"


def test_a_stream_has_a_child_of_its_own(sandbox: Sandbox) -> None:
    numbers = []
    for number in sandbox.stream(f"{HERE}:count_to", 4):
        numbers.append(number)
        assert sandbox.call(f"{HERE}:echo", number) == [number]
    assert numbers == [0, 1, 2, 3]


def test_a_stream_gives_what_came_before_its_crash(sandbox: Sandbox) -> None:
    numbers = []
    with pytest.raises(Rejected, match="SIGABRT"):
        for number in sandbox.stream(f"{HERE}:count_to", 4, 2):
            numbers.append(number)
    assert numbers == [0, 1]
    assert sandbox.kills == 1


def test_a_stream_that_nobody_reads_on_leaves_no_child(sandbox: Sandbox) -> None:
    before = set(psutil.Process().children())
    stream = sandbox.stream(f"{HERE}:count_to", 4)
    assert next(stream) == 0
    assert set(psutil.Process().children()) > before
    stream.close()
    left = set(psutil.Process().children()) - before
    assert not [child for child in left if child.status() != psutil.STATUS_ZOMBIE]


def test_the_child_ends_with_its_parent() -> None:
    """Also when it works and the parent was killed."""
    program = f"""
        import threading, time
        from panelworks.archives.sandbox import Sandbox
        from panelworks.archives.sandbox_child import Limits
        sandbox = Sandbox(Limits(60, 300_000_000, 1000))
        print(sandbox.call("{HERE}:process_and_parent")[0], flush=True)
        sandbox.call("{HERE}:spin")
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        child = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
        child.wait(timeout=30)
        assert not child.is_running()


def test_a_pool_keeps_children_and_threads_do_not_wait() -> None:
    pool = SandboxPool(LIMITS, max_idle=1)
    first = pool.call(f"{HERE}:process_and_parent")
    assert pool.call(f"{HERE}:process_and_parent") == first
    busy = threading.Thread(target=pool.call, args=(f"{HERE}:sleep", 0.5))
    busy.start()
    try:
        assert pool.call(f"{HERE}:echo", 1) == [1]
    finally:
        busy.join()
        pool.close()
