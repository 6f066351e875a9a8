"""The encoding of the variations of a batch: the user's choices, and the cap of the encoder. PURE."""

from __future__ import annotations

from dataclasses import dataclass

from runner.contract import CAP_KBPS, SOURCE_RATE_MAX, STANDARD_RATE, FrameRate, Quality, cap_kbps

FRAMES_PER_S = float(STANDARD_RATE)


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """The quality and the frame rate of the variations of a batch. Presets have their own."""

    quality: Quality = "standard"
    frame_rate: FrameRate = "29.97"

    @property
    def frames_per_s(self) -> float:
        """The frames of a second; where the rate of the source is kept, the most that there can be."""
        return FRAMES_PER_S if self.frame_rate == "29.97" else float(SOURCE_RATE_MAX)

    def cap_factor(self, pixels: float) -> float:
        """Return the cap of the bit rate of such frames, as a multiple of that of full HD, standard."""
        return cap_kbps(round(pixels), self.quality) / CAP_KBPS


STANDARD = Encoding()
