"""How much memory a job needs, and which machine has it."""

from __future__ import annotations

from control.costs import memory_bytes
from control.fit import Load, needed_bytes, smallest_size

SIZES = ("performance-1x", "performance-2x", "performance-4x", "performance-8x")
HD = Load(size_bytes=20 << 20, duration_s=30, width=1920, height=1080)
UHD = Load(size_bytes=100 << 20, duration_s=30, width=3840, height=2160)


def test_an_ad_in_full_hd_fits_the_smallest_machine() -> None:
    assert smallest_size(needed_bytes([HD] * 100), SIZES) == "performance-1x"


def test_an_encoder_in_4k_takes_a_larger_one() -> None:
    assert smallest_size(needed_bytes([HD, UHD]), SIZES) == "performance-2x"


def test_two_of_the_largest_sources_lie_in_memory_at_once() -> None:
    large = Load(size_bytes=2 << 30, duration_s=60, width=1920, height=1080)
    assert smallest_size(needed_bytes([large]), SIZES) == "performance-2x"
    assert smallest_size(needed_bytes([large, large, large]), SIZES) == "performance-4x"


def test_what_fits_nowhere_has_no_size() -> None:
    assert smallest_size(needed_bytes([UHD]), SIZES[:1]) is None


def test_the_order_of_the_allowed_sizes_does_not_matter() -> None:
    assert smallest_size(needed_bytes([HD]), SIZES[::-1]) == "performance-1x"


def test_a_source_nobody_has_looked_into_counts_as_full_hd() -> None:
    unknown = Load(size_bytes=20 << 20, duration_s=0, width=0, height=0)
    known = Load(size_bytes=20 << 20, duration_s=0, width=1920, height=1080)
    assert needed_bytes([unknown]) == needed_bytes([known])


def test_memory_is_what_the_price_list_says() -> None:
    assert memory_bytes("performance-2x") == 4 << 30
