"""What the kernel says of distances is read, and nonsense is not: FFmpeg writes into the same pipe."""

from __future__ import annotations

from runner.contract import Variety
from runner.render import Distances


def told(count: int, **numbers: int) -> Distances:
    distances = Distances(count)
    for name, value in numbers.items():
        if name in distances.readers:
            distances.readers[name](value)
    return distances


def test_each_output_has_its_own_numbers() -> None:
    found = told(2, source_0=41_000, sibling_0=17_000, source_1=250_000)
    assert found.of(0) == Variety(source=0.041, sibling=0.017)
    assert found.of(1) == Variety(source=0.25)


def test_numbers_beyond_the_range_and_of_no_output_are_ignored() -> None:
    found = told(2, source_0=1_000_001, sibling_0=1, source_1=1_000_000, sibling_1=10**17, source_2=5)
    assert found.of(0) is None
    assert found.of(1) == Variety(source=1.0)
