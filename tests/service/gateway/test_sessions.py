"""Sessions of browsers: signed, ended, of a key that was replaced, and damaged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.gateway.access import Keyring, hash_of
from service.gateway.sessions import (
    SESSION_SECONDS,
    form_token,
    is_form_token,
    is_signed,
    name_in_session,
    sign_session,
)

DIGEST = hash_of("secret").encode()


@given(st.text(min_size=1, max_size=40))
def test_a_session_names_its_key(name: str) -> None:
    session = sign_session(name, DIGEST)
    assert (name_in_session(session), is_signed(session, DIGEST)) == (name, True)
    assert session.isascii() and not set(session) & set(' ";,\\'), "it is the value of a cookie"
    assert "secret" not in session


def test_a_session_ends() -> None:
    session = sign_session("studio", DIGEST, now=1000)
    assert is_signed(session, DIGEST, now=1000 + SESSION_SECONDS - 1)
    assert not is_signed(session, DIGEST, now=1000 + SESSION_SECONDS + 1)


def test_a_key_that_is_replaced_ends_its_sessions() -> None:
    keys = Keyring((f"studio:{hash_of('old')}",))
    session = keys.open_session("old")
    assert session is not None
    found = keys.caller_of_session(session)
    assert found is not None and (found.owner, found.admin) == ("studio", False)
    assert Keyring((f"studio:{hash_of('new')}",)).caller_of_session(session) is None
    assert keys.open_session("wrong") is None


@given(st.text(max_size=60), st.integers(0, 200))
def test_a_damaged_session_is_refused(text: str, place: int) -> None:
    session = sign_session("studio", DIGEST)
    damaged = session[:place] + text + session[place + 1 :]
    assert damaged == session or not is_signed(damaged, DIGEST)
    name_in_session(damaged)


@pytest.mark.parametrize("session", ["", "a", "x" * 200])
def test_the_token_of_a_form_belongs_to_its_session(session: str) -> None:
    assert is_form_token(session, form_token(session)) == bool(session)
    assert not is_form_token(session, form_token("another"))
    assert not is_form_token(session, "")
