"""How much memory a job needs, and which machines have it."""

from __future__ import annotations

from control.domain.encoding import Encoding
from control.planning.prices import memory_bytes
from control.planning.sizing import fitting_sizes, needed_bytes, next_size
from control.planning.workload import SourceInfo

SIZES = ("performance-1x", "performance-2x", "performance-4x", "performance-8x")
HD = SourceInfo(size_bytes=20 << 20, duration_s=30, pixels=1920 * 1080)
UHD = SourceInfo(size_bytes=100 << 20, duration_s=30, pixels=3840 * 2160)


def fitting(*sources: SourceInfo) -> tuple[str, ...]:
    return fitting_sizes(needed_bytes(sources), SIZES)


def test_an_ad_in_full_hd_fits_every_machine() -> None:
    assert fitting(*[HD] * 100) == SIZES


def test_an_encoder_in_4k_takes_a_larger_one() -> None:
    assert fitting(HD, UHD) == SIZES[1:]


def test_two_of_the_largest_sources_are_in_memory_together() -> None:
    large = SourceInfo(size_bytes=2 << 30, duration_s=60, pixels=1920 * 1080)
    assert fitting(large) == SIZES[1:]
    assert fitting(large, large, large) == SIZES[2:]


def test_work_that_fits_nowhere_has_no_size() -> None:
    assert fitting_sizes(needed_bytes([UHD]), SIZES[:1]) == ()


def test_a_source_that_was_not_probed_counts_as_full_hd() -> None:
    unknown = SourceInfo(size_bytes=20 << 20, duration_s=0, pixels=0)
    known = SourceInfo(size_bytes=20 << 20, duration_s=0, pixels=1920 * 1080)
    assert needed_bytes([unknown]) == needed_bytes([known])


def test_memory_is_what_the_price_list_says() -> None:
    assert memory_bytes("performance-2x") == 4 << 30


def test_the_next_size_has_more_memory_in_any_order() -> None:
    assert (
        next_size("performance-1x", ("performance-8x", "performance-1x", "performance-4x"))
        == "performance-4x"
    )
    assert next_size("performance-8x", SIZES) is None
    assert next_size("performance-2x", ("performance-1x", "performance-4x")) == "performance-4x", (
        "no longer allowed"
    )


def test_high_quality_needs_memory_for_its_larger_outputs():
    long = SourceInfo(size_bytes=1, duration_s=600, pixels=1920 * 1080)
    assert needed_bytes([long], Encoding(quality="high")) > needed_bytes([long]) + 600e6
