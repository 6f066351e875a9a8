"""How much memory a job needs, and the machines that have it. PURE, over the data file of prices.

Bytes lie in the machine's memory while it works: two sources (one is rendered while the next is fetched), the
encoders, and the outputs that are on their way. What `runner.memory` holds back at once is less: it waits.
"""

from __future__ import annotations

from collections.abc import Sequence

from control.costs import memory_bytes
from control.work import Footage
from runner.contract import (
    FIRST_BYTES_PER_PIXEL,
    MEMORY_BASE_BYTES,
    OUTPUT_BYTES_PER_S,
    PROBE_BYTES,
    PROCESS_BYTES,
)

PIXELS_ASSUMED = 1920 * 1080  # of a source that nobody has looked into yet
OUTPUTS_IN_FLIGHT = 2  # one is rendered, one is uploaded; more where there is room


def needed_bytes(sources: Sequence[Footage]) -> float:
    """Return how much memory a machine must have to make outputs of these sources, one after another."""
    held = sum(sorted(source.size_bytes for source in sources)[-2:])
    return MEMORY_BASE_BYTES + held + max(map(_working_bytes, sources), default=0)


def fitting_sizes(needed: float, sizes: Sequence[str]) -> tuple[str, ...]:
    """Return those of the allowed sizes whose memory is enough."""
    return tuple(size for size in sizes if memory_bytes(size) >= needed)


def next_size(size: str, sizes: Sequence[str]) -> str | None:
    """Return the smallest of the allowed sizes with more memory, or None."""
    larger = [each for each in sizes if memory_bytes(each) > memory_bytes(size)]
    return min(larger, key=memory_bytes, default=None)


def _working_bytes(source: Footage) -> float:
    pixels = source.pixels or PIXELS_ASSUMED
    output_bytes = OUTPUT_BYTES_PER_S * source.duration_s
    rendering = PROCESS_BYTES + FIRST_BYTES_PER_PIXEL * pixels + OUTPUTS_IN_FLIGHT * output_bytes
    return max(PROBE_BYTES, rendering)
