"""How much memory a job needs, and the smallest machine that has it. PURE, over the data file of prices.

Bytes lie in the machine's memory while it works: two sources (one is rendered while the next is fetched), the
encoders, and the outputs that are on their way. What `runner.memory` holds back at once is less: it waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from control.costs import memory_bytes
from runner.contract import (
    FIRST_BYTES_PER_PIXEL,
    MEMORY_BASE_BYTES,
    OUTPUT_BYTES_PER_S,
    PROCESS_BYTES,
)

PIXELS_ASSUMED = 1920 * 1080  # of a source that nobody has looked into yet
OUTPUTS_IN_FLIGHT = 2  # one is rendered, one is uploaded; more where there is room


@dataclass(frozen=True, kw_only=True)
class Load:
    """What of a source counts: zeros where it is not known."""

    size_bytes: int
    duration_s: float
    width: int
    height: int


def needed_bytes(sources: Iterable[Load]) -> int:
    """Return how much memory a machine must have to make outputs of these sources, one after another."""
    loads = list(sources)
    held = sum(sorted(load.size_bytes for load in loads)[-2:])
    return MEMORY_BASE_BYTES + held + max(map(_working_bytes, loads), default=0)


def smallest_size(needed: int, sizes: Sequence[str]) -> str | None:
    """Return the allowed size with the least memory that is enough, or None."""
    fitting = [size for size in sizes if memory_bytes(size) >= needed]
    return min(fitting, key=memory_bytes, default=None)


def _working_bytes(load: Load) -> int:
    pixels = load.width * load.height or PIXELS_ASSUMED
    output_bytes = max(int(OUTPUT_BYTES_PER_S * load.duration_s), 0)
    return PROCESS_BYTES + FIRST_BYTES_PER_PIXEL * pixels + OUTPUTS_IN_FLIGHT * output_bytes
