"""How much memory a job needs, and which machine sizes have it. PURE, from the data file of prices.

A machine keeps its files in memory: two sources (one is rendered while the next one is fetched) and the
outputs that are being made and uploaded, beside the encoders. The runner waits when less memory is free.
"""

from __future__ import annotations

from collections.abc import Sequence

from control.domain.encoding import STANDARD, Encoding
from control.planning.prices import memory_bytes
from control.planning.workload import SourceInfo
from runner.contract import (
    FIRST_BYTES_PER_PIXEL,
    MEMORY_BASE_BYTES,
    OUTPUT_BYTES_PER_S,
    PROBE_BYTES,
    PROCESS_BYTES,
)

PIXELS_ASSUMED = 1920 * 1080  # of a source that has not been probed yet
OUTPUTS_IN_FLIGHT = 2  # one is rendered while one is uploaded; more if memory is free


def needed_bytes(sources: Sequence[SourceInfo], encoding: Encoding = STANDARD) -> float:
    """Return the memory that a machine needs to make outputs of these sources, one source after another."""
    held = sum(sorted(source.size_bytes for source in sources)[-2:])
    return MEMORY_BASE_BYTES + held + max((_working_bytes(source, encoding) for source in sources), default=0)


def fitting_sizes(needed: float, sizes: Sequence[str]) -> tuple[str, ...]:
    """Return the allowed sizes with enough memory."""
    return tuple(size for size in sizes if memory_bytes(size) >= needed)


def next_size(size: str, sizes: Sequence[str]) -> str | None:
    """Return the smallest of the allowed sizes with more memory, or None."""
    larger = [each for each in sizes if memory_bytes(each) > memory_bytes(size)]
    return min(larger, key=memory_bytes, default=None)


def _working_bytes(source: SourceInfo, encoding: Encoding) -> float:
    pixels = source.pixels or PIXELS_ASSUMED
    output_bytes = OUTPUT_BYTES_PER_S * encoding.cap_factor(pixels) * source.duration_s
    rendering = PROCESS_BYTES + FIRST_BYTES_PER_PIXEL * pixels + OUTPUTS_IN_FLIGHT * output_bytes
    return max(PROBE_BYTES, rendering)
