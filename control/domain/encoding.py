"""The encoding of the variations of a batch: the user's choices, and the cap of the encoder. PURE."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from runner.contract import CAP_KBPS, RATE_MIN, SOURCE_RATE_MAX, STANDARD_RATE, FrameRate, Quality, cap_kbps

FRAMES_PER_S = float(STANDARD_RATE)


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """The quality and the frame rate of the variations of a batch. Presets have their own."""

    quality: Quality = "standard"
    frame_rate: FrameRate = "29.97"

    def frames_per_s(self, source_rate: float | None = None) -> float:
        """Return the frames of a second; of a source of unknown rate that is kept, the most that can be.

        A runner makes frames of a slow source at a multiple of its rate, and of a variable one at a common
        rate, so what is known is an estimate.
        """
        if self.frame_rate == "29.97":
            return FRAMES_PER_S
        if not source_rate:
            return float(SOURCE_RATE_MAX)
        return min(float(SOURCE_RATE_MAX), source_rate * max(1, ceil(RATE_MIN / source_rate)))

    def cap_factor(self, pixels: float) -> float:
        """Return the cap of the bit rate of such frames, as a multiple of that of full HD, standard."""
        return cap_kbps(round(pixels), self.quality) / CAP_KBPS


STANDARD = Encoding()
