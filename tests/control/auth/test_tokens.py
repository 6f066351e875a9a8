"""Tokens and tickets."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.auth.tokens import Password, Signer
from tests.support.hostile import needs_proc, rss_bytes

NOW = datetime(2026, 11, 21, tzinfo=UTC)
SIGNER = Signer("one secret")


def bearer(signer: Signer = SIGNER, generation: int = 0) -> str:
    return signer.bearer(generation=generation, now=NOW)[0]


def test_a_bearer_token_lives_for_24_hours():
    token, expires_at = SIGNER.bearer(generation=0, now=NOW)
    assert expires_at == NOW + timedelta(hours=24)
    assert SIGNER.is_bearer(token, generation=0, now=expires_at - timedelta(seconds=1))
    assert not SIGNER.is_bearer(token, generation=0, now=expires_at)


def test_a_newer_generation_revokes_a_bearer_token():
    assert not SIGNER.is_bearer(bearer(), generation=1, now=NOW)


def test_the_previous_secret_still_verifies_and_a_foreign_one_never():
    rotated = Signer("new secret", "one secret")
    assert rotated.is_bearer(bearer(), generation=0, now=NOW)
    assert rotated.is_attempt_token(SIGNER.attempt_token("job_1-1"), "job_1-1")
    assert not Signer("new secret").is_bearer(bearer(), generation=0, now=NOW)


@pytest.mark.parametrize("position", range(0, 75, 5))
def test_a_token_with_one_other_character_is_refused(position):
    token = bearer()
    other = "1" if token[position] != "1" else "2"
    assert not SIGNER.is_bearer(token[:position] + other + token[position + 1 :], generation=0, now=NOW)


@given(st.text(max_size=200))
def test_an_invented_text_is_never_a_token(text):
    assert not SIGNER.is_bearer(text, generation=0, now=NOW)
    assert not SIGNER.is_ticket(text, "bat_1", generation=0, now=NOW)
    assert not SIGNER.is_attempt_token(text, "job_1-1")


def test_a_ticket_opens_its_own_batch_for_an_hour_or_until_all_is_revoked():
    ticket = SIGNER.ticket("bat_1", generation=0, now=NOW)
    assert SIGNER.is_ticket(ticket, "bat_1", generation=0, now=NOW)
    assert not SIGNER.is_ticket(ticket, "bat_2", generation=0, now=NOW)
    assert not SIGNER.is_ticket(ticket, "bat_1", generation=0, now=NOW + timedelta(hours=1))
    assert not SIGNER.is_ticket(ticket, "bat_1", generation=1, now=NOW)


def test_no_kind_of_token_is_accepted_as_another():
    ticket, attempt = SIGNER.ticket("0", generation=0, now=NOW), SIGNER.attempt_token("0")
    assert not SIGNER.is_bearer(ticket, generation=0, now=NOW)
    assert not SIGNER.is_ticket(bearer(), "0", generation=0, now=NOW)
    assert not SIGNER.is_attempt_token(ticket, "0")
    assert not SIGNER.is_bearer(attempt, generation=0, now=NOW)


def test_an_attempt_token_is_for_one_attempt_and_always_the_same():
    token = SIGNER.attempt_token("job_1-1")
    assert token == SIGNER.attempt_token("job_1-1")
    assert not SIGNER.is_attempt_token(token, "job_1-2")


def test_passwords_are_compared_whole():
    password = Password("päss")
    assert password.matches("päss")
    assert not password.matches("pass")
    assert not password.matches("\ud800")


@needs_proc
def test_passwords_compared_for_many_threads_take_the_memory_of_two():
    password = Password("a password long enough")
    before = rss_bytes()
    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(password.matches, ["a guess"] * 64)) == [False] * 64
    assert rss_bytes() - before < 5 * 16 * 1024**2


def test_a_new_password_ends_every_bearer_token():
    before, after = Signer("one secret", password="old"), Signer("one secret", password="new")
    assert before.is_bearer(bearer(before), generation=0, now=NOW)
    assert not after.is_bearer(bearer(before), generation=0, now=NOW)
