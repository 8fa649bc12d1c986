"""`data:` addresses: the same bytes as Python's decoders give, in little memory."""

import base64
import tracemalloc
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panelworks.errors import Rejected
from panelworks.sources import data_uri
from panelworks.sources.data_uri import decode_data_uri

MIB = 2**20


@pytest.mark.parametrize(
    ("form", "holds"),
    [
        (lambda: "data:image/png," + "%41" * MIB, MIB),
        (lambda: "data:image/png," + "%41A%" * (MIB // 2), 3 * MIB // 2),
        (lambda: "data:image/png;base64," + "%41" * MIB, 3 * MIB // 4),
        (lambda: "data:image/png;base64," + "A" * (3 * MIB), 9 * MIB // 4),
        (lambda: "data:image/png;base64," + "=" * (3 * MIB), "bad_data_uri"),
        (lambda: "data:image/png;base64," + "A" * (3 * MIB) + "\N{GRINNING FACE}", "bad_data_uri"),
        (lambda: "data:" + ";" * (3 * MIB), "bad_data_uri"),
        (lambda: "data:" + ";" * (3 * MIB) + ",x", "bad_data_uri"),
        (lambda: "data:" + "A" * (3 * MIB) + ",x", "bad_data_uri"),
        (lambda: "data:," + "A" * (5 * MIB), "too_large"),
    ],
    ids=["percent", "mixed", "base64 percent", "base64", "padding", "wide", "semicolons", "parameters", "type", "plain"],
)  # fmt: skip
def test_decoding_takes_no_more_memory_than_the_text(form: Callable[[], str], holds: int | str) -> None:
    """Before, 60 MiB of percent signs took 4.9 GiB, and 60 MiB of semicolons 10 GiB."""
    source = form()
    tracemalloc.start()
    try:
        if isinstance(holds, int):
            assert len(decode_data_uri(source, 4 * MIB)[1]) == holds
        else:
            with pytest.raises(Rejected) as caught:
                decode_data_uri(source, 4 * MIB)
            assert caught.value.code == holds
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(source) * 3 // 2 + 6 * MIB


TEXTS = st.lists(
    st.sampled_from(["%41", "%", "%4", "%3D", "=", "==", "A", "Bc", "+", "/", "é", "%zz", "%%41", "\n", "\ud800"]),
    max_size=30,
).map("".join)  # fmt: skip


@given(TEXTS, st.booleans(), st.integers(3, 12))
def test_pieces_make_the_same_bytes_as_the_whole(text: str, base64_encoded: bool, piece: int) -> None:
    try:
        whole: bytes | None = unquote_to_bytes(text)
        if whole is not None and base64_encoded:
            whole = base64.b64decode(whole, validate=True)
    except ValueError:
        whole = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_uri, "_PIECE_CHARACTERS", piece)
        try:
            found: bytes | None = decode_data_uri(f"data:{';base64' if base64_encoded else ''},{text}", MIB)[
                1
            ]
        except Rejected:
            found = None
    assert found == whole
