"""Simple tokens: their form, their time, their number."""

from __future__ import annotations

from random import Random

import pytest

from etcdpy.auth import tokens
from etcdpy.auth.tokens import Found, NoTokens, SimpleTokens
from etcdpy.errors import AuthFailed


def make(ttl: float = 300) -> SimpleTokens:
    made = SimpleTokens(ttl)
    made.enable()
    return made


def test_a_token_lives_after_its_last_use() -> None:
    provider = make(10)
    token = provider.assign("u", "x", 7, now=0.0)
    for now in (5.0, 14.0, 23.9):
        assert provider.find(token, now, 0.0) == Found("u", None, 1.0)
    assert provider.find(token, 34.0, 0.0) is None
    assert provider.find(token, 24.0, 0.0) is None, "what is over is gone"


def test_those_that_are_over_go_without_being_asked_for() -> None:
    provider = make(10)
    first = provider.assign("u", "a", 1, now=0.0)
    provider.assign("u", "b", 2, now=0.0)
    provider.find(first, 5.0, 0.0)
    provider.assign("u", "c", 3, now=12.0)
    assert len(provider) == 2
    assert provider.find(first, 12.0, 0.0) is not None


def test_there_is_a_bound_and_the_longest_unused_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "SIMPLE_TOKENS_MAX", 2)
    provider = make()
    first = provider.assign("u", "a", 1, now=0.0)
    second = provider.assign("u", "b", 2, now=0.0)
    provider.find(first, 2.0, 0.0)
    provider.assign("u", "c", 3, now=3.0)
    assert provider.find(second, 3.0, 0.0) is None
    assert provider.find(first, 3.0, 0.0) is not None


def test_without_users_nothing_is_kept() -> None:
    provider = SimpleTokens(300)
    token = provider.assign("u", "a", 1, now=0.0)
    assert provider.find(token, 0.0, 0.0) is None


def test_a_time_of_nothing_is_the_default() -> None:
    provider = make(0)
    token = provider.assign("u", "a", 1, now=0.0)
    assert provider.find(token, 299.0, 0.0) == Found("u", None, 1.0)


def test_the_entry_to_wait_for() -> None:
    provider = make()
    assert provider.known_from("letters.12") == 13
    for text in ("", ".", "letters", "letters.", ".12", "letters.-1", "letters.1.2", "letters.x", "a." + "9" * 30):
        assert provider.known_from(text) == 0, text
    token = provider.assign("u", "letters", 12, now=0.0)
    assert provider.known_from(token) == 0


def test_prefixes_are_sixteen_letters() -> None:
    prefix = make().new_prefix(Random(1))
    assert len(prefix) == 16
    assert prefix.isalpha()
    assert prefix.isascii()


def test_no_tokens_at_all() -> None:
    provider = NoTokens()
    with pytest.raises(AuthFailed):
        provider.assign("u", "", 1, now=0.0)
    assert provider.find("anything", 0.0, 0.0) is None
