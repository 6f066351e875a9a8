"""How the variations of a batch are encoded: what a user may choose, and the cap of the encoder. PURE."""

from __future__ import annotations

import math
from dataclasses import dataclass

from runner.contract import FrameRate, Quality

FULL_HD_PIXELS = 1920 * 1080
HIGH_CAP_FACTOR = 3
FRAMES_PER_S, SOURCE_FRAMES_PER_S_MAX = 30000 / 1001, 60.0


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """The quality and the frame rate of the variations of a batch. Presets have their own."""

    quality: Quality = "standard"
    frame_rate: FrameRate = "29.97"

    @property
    def frames_per_s(self) -> float:
        """The frames of a second; where the rate of the source is kept, the most that there can be."""
        return FRAMES_PER_S if self.frame_rate == "29.97" else SOURCE_FRAMES_PER_S_MAX

    def cap_factor(self, pixels: float) -> float:
        """Return the cap of the bit rate of such frames, as a multiple of that of full HD, standard."""
        larger = math.pow(max(1.0, pixels / FULL_HD_PIXELS), 0.75)
        return larger * (HIGH_CAP_FACTOR if self.quality == "high" else 1)


STANDARD = Encoding()
