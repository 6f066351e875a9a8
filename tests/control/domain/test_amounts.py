"""Sizes as people say them."""

from __future__ import annotations

import pytest

from control.domain.amounts import in_words


@pytest.mark.parametrize(
    ("size_bytes", "words"),
    [
        *((0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (99_499_999, "99.5 MB")),
        *((99_500_000, "100 MB"), (999_499_999, "999 MB"), (999_500_000, "1.0 GB")),
        *((3 * 2**30, "3.2 GB"), (10**16, "10000 TB"), (10**400, "more than 1000000 TB")),
    ],
)
def test_a_size_has_two_or_three_digits(size_bytes: int, words: str) -> None:
    assert in_words(size_bytes) == words
