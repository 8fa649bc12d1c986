"""Both folders, one table: what holds on a disk holds in a bucket."""

import os
import tempfile
import threading
from pathlib import Path

import pytest

from panelworks.errors import Misconfigured, ObjectMissing, Rejected, Transient
from panelworks.settings import Settings, get_settings
from panelworks.storage import ContentStore, ObjectFolder, check_places, open_folder
from panelworks.storage.cache import open_cache
from panelworks.storage.local import LocalFolder

_NOBODY = 65_534
"""User id without rights."""


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectFolder:
    if request.param == "local":
        return open_folder(str(tmp_path / "objects"), get_settings())
    bucket = request.getfixturevalue("bucket")
    return open_folder(f"s3://{bucket}/some/prefix", get_settings())


def test_what_is_written_is_read(folder: ObjectFolder) -> None:
    assert folder.read("a/b.txt") is None
    assert not folder.exists("a/b.txt")
    uri = folder.write("a/b.txt", b"one", "text/plain")
    assert uri == folder.uri("a/b.txt")
    assert folder.exists("a/b.txt")
    assert folder.read("a/b.txt") == b"one"
    folder.write("a/b.txt", b"two", "text/plain")
    assert folder.read("a/b.txt") == b"two"


def test_a_limit_is_kept(folder: ObjectFolder) -> None:
    folder.write("large", b"12345", "text/plain")
    assert folder.read("large", limit=5) == b"12345"
    with pytest.raises(Rejected):
        folder.read("large", limit=4)


def test_pictures_are_kept_by_content(folder: ObjectFolder, settings: Settings) -> None:
    store = ContentStore(folder, open_cache(settings), 1000)
    first = store.put(b"pixels", "image/png", (2, 3))
    assert first == store.put(b"pixels", "image/png", (2, 3))
    assert (first.width, first.height, first.bytes) == (2, 3, 6)
    assert first.uri.endswith(f"objects/{first.sha256[:2]}/{first.sha256}.png")
    assert store.has(first)
    assert store.get(first) == b"pixels"
    gone = first.model_copy(update={"sha256": "0" * 64})
    assert not store.has(gone)
    with pytest.raises(ObjectMissing):
        store.get(gone)


def test_many_writers_of_one_object_do_not_disturb_each_other(
    folder: ObjectFolder, settings: Settings
) -> None:
    store = ContentStore(folder, open_cache(settings), 1000)
    data = bytes(200_000)
    threads = [threading.Thread(target=store.put, args=(data, "image/png", (1, 1))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.get(store.put(data, "image/png", (1, 1))) == data


def test_nothing_half_written_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(Misconfigured) as caught:
        LocalFolder(tmp_path).write("page.png", b"data", "image/png")
    assert caught.value.code == "disk_full"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured) as caught:
        LocalFolder(tmp_path / "file").write("page.png", b"data", "image/png")
    assert caught.value.code == "not_writable"


def test_names_cannot_climb(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="contains"):
        LocalFolder(tmp_path).write("../out.png", b"", "image/png")


def test_a_missing_bucket_is_for_a_person_to_mend(bucket: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        open_folder("s3://no-such-bucket-here", get_settings()).write("x", b"", "text/plain")
    assert caught.value.code == "no_bucket"


def test_a_bucket_that_does_not_answer_may_answer_later(settings: Settings) -> None:
    away = settings.model_copy(update={"s3_endpoint": "http://127.0.0.1:9"})
    for call in ("read", "exists"):
        with pytest.raises(Transient) as caught:
            getattr(open_folder("s3://pages", away), call)("x")
        assert caught.value.code == "s3_unavailable"


def test_a_small_derivative_outlives_the_store(tmp_path: Path, settings: Settings) -> None:
    cache = open_cache(settings)
    first = ContentStore(LocalFolder(tmp_path / "one"), cache, 1000).put_derivative(
        b"x" * 900, "image/png", (1, 1)
    )
    other = ContentStore(LocalFolder(tmp_path / "two"), cache, 1000)
    assert other.has(first), "another machine finds it in the cache and keeps it"
    assert LocalFolder(tmp_path / "two").exists(f"objects/{first.sha256[:2]}/{first.sha256}.png")
    large = ContentStore(LocalFolder(tmp_path / "one"), cache, 100).put_derivative(
        b"y" * 900, "image/png", (1, 1)
    )
    assert not ContentStore(LocalFolder(tmp_path / "two"), cache, 100).has(large)


def test_a_usable_folder_is_found_usable_without_writing(folder: ObjectFolder) -> None:
    folder.check_usable()
    assert list(folder.files()) == []


def test_a_folder_that_does_not_exist_yet_is_not_made_by_the_check(tmp_path: Path) -> None:
    LocalFolder(tmp_path / "new" / "deep").check_usable()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_below_a_file_is_not_usable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured, match="is a file") as caught:
        LocalFolder(tmp_path / "file" / "out").check_usable()
    assert caught.value.code == "not_writable"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="file permissions of POSIX")
@pytest.mark.parametrize("below", ["out", "deep/out"])
@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_a_folder_without_permission_is_not_usable(below: str, mode: int) -> None:
    """In a child without root's rights, which ignore permissions; pytest's own folders are closed to it."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(mode)
        child = os.fork()
        if child == 0:
            code = None
            try:
                if os.getuid() == 0:
                    os.setuid(_NOBODY)
                LocalFolder(Path(folder, below)).check_usable()
            except Misconfigured as error:
                code = error.code
            finally:
                os._exit(0 if code == "not_writable" else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        Path(folder).chmod(0o755)


@pytest.mark.parametrize(
    ("place", "change", "code"),
    [
        ("s3://no-such-bucket-here", {}, "no_bucket"),
        ("s3://pages", {"s3_endpoint": "http://127.0.0.1:9"}, "s3_unavailable"),
    ],
)
def test_a_bucket_that_cannot_be_used_is_found(
    place: str, change: dict[str, str], code: str, bucket: str, settings: Settings
) -> None:
    with pytest.raises((Misconfigured, Transient)) as caught:
        check_places([place], settings.model_copy(update=change))
    assert caught.value.code == code
