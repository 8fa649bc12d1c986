"""Videos as sources of pages: local files, buckets, web servers, and what clients may name."""

import hashlib
from pathlib import Path

import pytest

from panelworks.domain.request import Origin, PageRequest
from panelworks.errors import Misconfigured, PanelworksError, UnsafeSource, missing_extra_error
from panelworks.page.direct import enhance_directly
from panelworks.page.engine import Engine
from panelworks.page.entry_points import admit
from panelworks.pictures import decode
from panelworks.settings import Settings, get_settings
from panelworks.storage.folder import open_folder
from panelworks.video.source import fetch_picture
from tests.pages import psnr, write_page
from tests.servers import QuietHandler, serving
from tests.videos import page


def code_of(source: str, settings: Settings) -> str:
    with pytest.raises(PanelworksError) as caught:
        fetch_picture(source, settings)
    assert caught.value.message.endswith(".")
    return caught.value.code


def test_a_moment_is_a_picture(story: Path, settings: Settings) -> None:
    fetched = fetch_picture(f"{story}#t=1.513", settings)
    assert psnr(decode(fetched.data, settings).picture.pixels, page(1)) > 22
    assert fetched.uri == f"{story.resolve().as_uri()}#t=1.5"
    assert fetched.stem == "story-00-00-01.500"
    assert fetched.notes == ("video: the frame at 1.500 s of 7.400 s was used",)
    again = fetch_picture(fetched.uri, settings)
    assert again.data == fetched.data


def test_without_a_moment_the_best_frame_is_used(story: Path, settings: Settings) -> None:
    fetched = fetch_picture(str(story), settings)
    assert fetched.data == fetch_picture(f"{story}#best", settings).data
    assert fetched.notes[0].endswith("#t=12.5 after the address names another one")


def test_sources_that_are_no_moments_have_codes(story: Path, tmp_path: Path, settings: Settings) -> None:
    picture = write_page(tmp_path / "page.png")
    small = settings.model_copy(update={"max_video_bytes": 100})
    assert code_of(f"{story}#t=99", settings) == "bad_time"
    assert code_of(f"{story}#t=x", settings) == "bad_time"
    assert code_of(f"{picture}#best", settings) == "not_a_video"
    assert code_of(f"{tmp_path}/none.mp4#best", settings) == "not_found"
    assert code_of(f"{tmp_path}/none.mp4", settings) == "not_found"
    assert code_of("ftp://example.com/clip.mp4", settings) == "unsupported_scheme"
    assert code_of(str(story), small) == "too_large"


def test_the_content_decides(story: Path, tmp_path: Path, settings: Settings) -> None:
    """A picture that is named like a video is a picture; a file whose name looks like a moment is that file."""
    misnamed = write_page(tmp_path / "page.mp4")
    assert fetch_picture(str(misnamed), settings).data == misnamed.read_bytes()
    odd = write_page(tmp_path / "page.png#best")
    assert fetch_picture(str(odd), settings).data == odd.read_bytes()
    unnamed = tmp_path / "clip"
    unnamed.write_bytes(story.read_bytes())
    assert fetch_picture(f"{unnamed}#t=1.5", settings).stem == "clip-00-00-01.500"


def test_videos_larger_than_pictures_may_be(story: Path, settings: Settings) -> None:
    small = settings.model_copy(update={"max_source_bytes": 1000})
    assert fetch_picture(f"{story}#t=1.5", small).data


def test_a_video_in_a_bucket(story: Path, bucket: str) -> None:
    settings = get_settings()
    folder = open_folder(f"s3://{bucket}/clips", settings)
    folder.write("story.mp4", story.read_bytes(), "video/mp4")
    fetched = fetch_picture(f"s3://{bucket}/clips/story.mp4#t=1.5", settings)
    assert fetched.data == fetch_picture(f"{story}#t=1.5", settings).data
    assert fetched.uri == f"s3://{bucket}/clips/story.mp4#t=1.5"
    assert code_of(f"s3://{bucket}/clips/none.mp4#best", settings) == "not_found"
    small = settings.model_copy(update={"max_video_bytes": 100})
    assert code_of(f"s3://{bucket}/clips/story.mp4", small) == "too_large"
    folder.write("page.png#best", b"odd", "image/png")
    assert fetch_picture(f"s3://{bucket}/clips/page.png#best", settings).data == b"odd"


def test_a_video_of_a_web_server(story: Path, settings: Settings) -> None:
    data = story.read_bytes()

    class Server(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
            self.send_response(200)
            self.end_headers()
            self.wfile.write(data)

    allowed = settings.model_copy(update={"allow_http": True, "allow_private_addresses": True})
    with serving(Server) as address:
        fetched = fetch_picture(f"{address}/clips/story.mp4?signature=x#t=1.5", allowed)
        assert fetched.uri == f"{address}/clips/story.mp4#t=1.5"
        assert fetched.stem == "story-00-00-01.500"
        small = allowed.model_copy(update={"max_video_bytes": 1000})
        assert code_of(f"{address}/story.mp4", small) == "too_large"
        assert code_of(f"{address}/story.mp4", settings) == "plain_http"


def test_a_moment_is_enhanced_like_a_page(story: Path, engine: Engine, tmp_path: Path) -> None:
    """The content key is that of the picture's bytes: the same picture is not computed again."""
    request = PageRequest(source=f"{story}#t=1.5", out=str(tmp_path / "out"), job_id="1")
    first = enhance_directly(request, engine)
    assert first.error is None
    assert first.source is not None
    assert first.source.uri.endswith("story.mp4#t=1.5")
    assert first.notes[0].startswith("video: the frame at 1.500 s")
    frame = tmp_path / "frame.png"
    frame.write_bytes(fetch_picture(request.source, engine.settings).data)
    assert first.source.sha256 == hashlib.sha256(frame.read_bytes()).hexdigest()
    second = enhance_directly(request.model_copy(update={"source": str(frame)}), engine)
    assert (second.content_key, second.cached) == (first.content_key, True)
    assert engine.identify(request).content_key == first.content_key


@pytest.mark.parametrize("name", ["clip.mp4#best", "clip.mp4#t=1", "clip.mp4#t=x", "clip.mp4"])
def test_clients_may_name_moments_only_of_what_they_may_name(
    name: str, tmp_path: Path, story: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link out of the allowed folder is no way out, with a moment or without."""
    root = tmp_path / "root"
    root.mkdir()
    inside = settings.model_copy(update={"source_roots": (root,)})

    def request(source: str) -> PageRequest:
        return PageRequest(
            source=source, out=settings.default_out, job_id="1", origin=Origin(entry_point="http")
        )

    (root / "clip.mp4").write_bytes(b"")
    admit(request(f"{root}/{name}"), inside)
    (root / "clip.mp4").unlink()
    (root / "clip.mp4").symlink_to(story)
    with pytest.raises(UnsafeSource):
        admit(request(f"{root}/{name}"), inside)


def test_the_missing_extra_is_named(story: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    import panelworks.video.clip as clip_module

    monkeypatch.setattr(clip_module, "_DECODER", "tests.panelworks.video.without_av")
    with pytest.raises(Misconfigured, match=r"pip install 'panelworks\[video\]'"):
        fetch_picture(str(story), settings)
    assert missing_extra_error("imageio.v3") is not None
