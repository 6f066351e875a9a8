"""How long a machine may take from its create to its first call before it counts as stuck. PURE.

Fly has kept machines in `created` for hours (https://community.fly.io/t/28143), while nearly all boot in
seconds: waiting BOOT_TIMEOUT_S for each stuck one would cost its job minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

SAMPLES_MIN = 20  # with fewer boots nothing is concluded
SAMPLES_MAX = 200  # the newest boots that count
QUANTILE = 0.99
MARGIN = 2.0
FLOOR_S = 30.0


def deadline_s(boots_s: Sequence[float], *, ceiling_s: float) -> float:
    """Return the deadline for these boots: twice their p99, within FLOOR_S and `ceiling_s`."""
    if len(boots_s) < SAMPLES_MIN:
        return ceiling_s
    p99_s = sorted(boots_s)[ceil(QUANTILE * len(boots_s)) - 1]
    return min(ceiling_s, max(FLOOR_S, MARGIN * p99_s))
