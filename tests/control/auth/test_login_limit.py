"""The limit of password tries."""

from __future__ import annotations

from contextlib import suppress

import pytest

from control.auth.login_limit import (
    ADDRESSES_MAX,
    FREE_TRIES,
    PAUSE_S_MAX,
    TOGETHER,
    LoginLimit,
    TooManyTries,
    home_of,
    network_of,
)


class Now:
    s = 0.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def limit(now: Now) -> LoginLimit:
    return LoginLimit(now)


def wrong_tries(limit: LoginLimit, now: Now, address: str, count: int) -> None:
    """Try as soon as each is allowed, and no sooner."""
    for _ in range(count):
        try:
            limit.admit(address)
        except TooManyTries as refused:
            now.s += refused.retry_after_s
            limit.admit(address)


def wait_s(limit: LoginLimit, address: str) -> int:
    with pytest.raises(TooManyTries) as refused:
        limit.admit(address)
    return refused.value.retry_after_s


def test_each_wrong_try_after_the_free_ones_doubles_the_pause(limit, now):
    wrong_tries(limit, now, "192.0.2.1", FREE_TRIES)
    pauses = []
    for _ in range(12):
        pauses.append(wait_s(limit, "192.0.2.1"))
        now.s += pauses[-1]
        limit.admit("192.0.2.1")
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, PAUSE_S_MAX, PAUSE_S_MAX]


def test_of_a_thousand_guesses_at_once_only_a_few_are_checked(limit):
    admitted = 0
    for _ in range(1000):
        try:
            limit.admit("192.0.2.1")
            admitted += 1
        except TooManyTries:
            pass
    assert admitted == FREE_TRIES


def test_another_address_is_not_slowed_down(limit, now):
    wrong_tries(limit, now, "192.0.2.1", FREE_TRIES)
    limit.admit("192.0.2.2")


def test_the_right_password_clears_the_wrong_tries(limit, now):
    wrong_tries(limit, now, "192.0.2.1", FREE_TRIES - 1)
    limit.admit("192.0.2.1")
    limit.succeeded("192.0.2.1")
    wrong_tries(limit, now, "192.0.2.1", FREE_TRIES - 1)
    limit.admit("192.0.2.1")


def test_many_addresses_are_slowed_down_together(limit, now):
    for n in range(TOGETHER.burst):
        limit.admit(f"192.0.2.{n}")
    assert wait_s(limit, "198.51.100.1") == 1
    now.s += 1 / TOGETHER.per_s
    limit.admit("198.51.100.1")


def test_many_addresses_do_not_lock_out_a_known_network(limit):
    limit.admit("203.0.113.7")
    limit.succeeded("203.0.113.7")
    for n in range(TOGETHER.burst - 1):
        limit.admit(f"192.0.2.{n}")
    wait_s(limit, "198.51.100.1")
    limit.admit("203.0.113.7")


def test_a_refused_try_is_not_counted(limit, now):
    wrong_tries(limit, now, "192.0.2.1", FREE_TRIES)
    for _ in range(10):
        assert wait_s(limit, "192.0.2.1") == 1


def test_memory_is_bounded(limit, now):
    for n in range(ADDRESSES_MAX + 10):
        now.s += 1
        limit.admit(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}")
    assert len(limit._others) == ADDRESSES_MAX


def test_all_addresses_of_one_48_count_as_one_guesser(limit):
    admitted = 0
    for n in range(1000):
        with suppress(TooManyTries):
            limit.admit(f"2001:db8:a:{n:x}::1")
            admitted += 1
    assert admitted == FREE_TRIES


def test_a_known_network_stays_known_after_any_number_of_wrong_tries(limit, now):
    limit.admit("203.0.113.7")
    limit.succeeded("203.0.113.7")
    for n in range(ADDRESSES_MAX + 10):  # each is admitted, since time passes in between
        now.s += 1
        limit.admit(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}")
    for n in range(2 * TOGETHER.burst):
        with suppress(TooManyTries):
            limit.admit(f"192.0.2.{n}")
    wait_s(limit, "198.51.100.1")
    limit.admit("203.0.113.7")


def test_refused_tries_are_not_remembered(limit):
    for n in range(1000):
        with suppress(TooManyTries):
            limit.admit(f"10.0.{n >> 8}.{n & 255}")
    assert len(limit._others) == TOGETHER.burst
    assert not limit._known


def test_a_neighbour_in_the_same_48_does_not_lock_out_a_known_network(limit):
    limit.admit("2001:db8:a:1::7")
    limit.succeeded("2001:db8:a:1::7")
    for n in range(2, 100):
        with suppress(TooManyTries):
            limit.admit(f"2001:db8:a:{n:x}::1")
    wait_s(limit, "2001:db8:a:fff::1")
    limit.admit("2001:db8:a:1::8")


def test_a_known_network_is_slowed_down_by_its_own_wrong_tries(limit, now):
    limit.admit("203.0.113.7")
    limit.succeeded("203.0.113.7")
    wrong_tries(limit, now, "203.0.113.7", FREE_TRIES)
    assert wait_s(limit, "203.0.113.7") == 1


@pytest.mark.parametrize(
    ("address", "network", "home"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::", "2001:db8:1:2::"),
        ("2001:db8:1:2::9", "2001:db8:1::", "2001:db8:1:2::"),
        ("testclient", "testclient", "testclient"),
    ],
)
def test_the_networks_of_addresses(address, network, home):
    assert (network_of(address), home_of(address)) == (network, home)
