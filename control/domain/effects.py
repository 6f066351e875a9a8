"""From a seed to the effects of each variation. PURE.

Must stay stable: the same source, seed and image give the same effects, so a change here is a new image.

Each effect follows its own van der Corput sequence, scrambled by a digest of seed, source and effect. Two
variations in a row take the two halves of a range, four take the four quarters, and so on, so siblings lie
far apart. Independent draws would leave gaps and near copies. scipy's `qmc` has such sequences too, but it
would add 35 MB to control's image for the few lines of `_sequence`, and its points may change with a release.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

from control.domain.effect_names import EffectName
from runner.contract import Effects

SIBLINGS = 4  # the number of variations that share `noise` and `speed`, and so decoding, timing and sound
NOISE_LEVELS = 9  # 0 to 8
BLOCK = 128  # points of a sequence; each further 128 are scrambled by a digest of their own
_PER_VARIATION = {"rotation", "brightness", "contrast", "saturation", "zoom"}


@dataclass(frozen=True)
class EffectChoice:
    """Which effects a batch leaves out, and how strong the others are: 1 is their whole range.

    `without` never names all of EFFECT_NAMES.
    """

    without: tuple[EffectName, ...] = ()
    strength: float = 1.0

    def has(self, name: EffectName) -> bool:
        """Return whether an effect is used."""
        return name not in self.without

    @cached_property
    def siblings(self) -> int:
        """The size of the groups that share noise and speed.

        Smaller than SIBLINGS where the members of a group would have nothing else to differ by.
        """
        if any(name not in self.without for name in _PER_VARIATION):
            return SIBLINGS
        return 2 if self.has("mirror") else 1

    @cached_property
    def distinct_max(self) -> float:
        """How many different variations of one source there can be; infinite with any continuous effect."""
        if self.siblings == SIBLINGS or self.has("speed"):
            return math.inf
        levels = {_noise(level / NOISE_LEVELS, self) for level in range(NOISE_LEVELS)}
        return self.siblings * len(levels)


ALL_EFFECTS = EffectChoice()


def effects(*, seed: int, fingerprint: str, variation: int, choice: EffectChoice = ALL_EFFECTS) -> Effects:
    """Return the recipe of a source's variation (counted from 1). It does not depend on their number.

    `fingerprint` stands for the source's content. Ranges: docs/glossary.md. An effect that is left out has
    its neutral value and changes no other. Values are rounded to six digits, far below what an eye sees. The
    caller asks for no variation beyond `choice.distinct_max`; up to there each differs from every other.
    """

    def point(effect: str, index: int) -> float:
        return _point(seed, fingerprint, effect, index)

    def scaled(name: EffectName, neutral: float, value: float) -> float:
        return round(neutral + choice.strength * (value - neutral), 6) if choice.has(name) else neutral

    own = variation - 1
    group = _group(seed, fingerprint, own // choice.siblings, choice)
    return Effects(
        rotation_rad=scaled("rotation", 0.0, _rotation(point("rotation", own))),
        brightness=scaled("brightness", 0.0, _between(-0.05, 0.05, point("brightness", own))),
        contrast=scaled("contrast", 1.0, _between(0.95, 1.05, point("contrast", own))),
        saturation=scaled("saturation", 1.0, _between(0.95, 1.05, point("saturation", own))),
        zoom=scaled("zoom", 1.0, _between(1.0, 1.05, point("zoom", own))),
        shift_x=scaled("zoom", 0.0, _between(-1.0, 1.0, point("shift_x", own))),
        shift_y=scaled("zoom", 0.0, _between(-1.0, 1.0, point("shift_y", own))),
        mirror=choice.has("mirror") and point("mirror", own) < 0.5,
        noise=_noise(point("noise", group), choice),
        speed=scaled("speed", 1.0, _between(0.97, 1.03, point("speed", group))),
    )


def tag(*, seed: int, fingerprint: str, variation: int) -> str:
    """Return the six hex digits of a variation's file name."""
    return _digest(seed, fingerprint, "name", variation).hex()[:6]


def _between(low: float, high: float, point: float) -> float:
    return low + (high - low) * point


def _rotation(point: float) -> float:
    """Return an angle of at least 0.001 in either direction."""
    return _between(-0.01, -0.001, 2 * point) if point < 0.5 else _between(0.001, 0.01, 2 * point - 1)


def _noise(point: float, choice: EffectChoice) -> int:
    return round(choice.strength * int(point * NOISE_LEVELS)) if choice.has("noise") else 0


def _group(seed: int, fingerprint: str, number: int, choice: EffectChoice) -> int:
    """Return the point of the sequences that the group of this number (from 0) takes: its own number.

    If groups can differ only by noise, a point with the noise of an earlier group is skipped.
    """
    if math.isinf(choice.distinct_max):
        return number
    if number >= choice.distinct_max / choice.siblings:
        raise ValueError(f"there are only {choice.distinct_max:.0f} different variations")
    levels = [_noise(_point(seed, fingerprint, "noise", n), choice) for n in range(BLOCK)]
    return sorted(map(levels.index, set(levels)))[number]


def _point(seed: int, fingerprint: str, effect: str, index: int) -> float:
    """Return the point of this index of an effect's sequence, in [0, 1)."""
    block, index = divmod(index, BLOCK)
    return _sequence(seed, fingerprint, effect, block)[index]


@lru_cache(maxsize=1024)
def _sequence(seed: int, fingerprint: str, effect: str, block: int) -> list[float]:
    """Return BLOCK points; each aligned run of 2, 4, 8, ... has one in each half, quarter, eighth, ...

    The bits of an index in reverse order are van der Corput's point. They are a path through a binary tree,
    highest bit of the index first, in which a bit of the digest for each node may swap the node's two halves;
    then further bits of the digest are added, without carry, to all points.
    """
    digest = _digest(seed, fingerprint, effect, block)
    swaps, shift = int.from_bytes(digest[:16]), int.from_bytes(digest[16:24])
    points, weight = [0], BLOCK
    while weight > 1:
        weight //= 2
        nodes = enumerate(points, start=len(points))
        points = [
            point | ((digit ^ (swaps >> node & 1)) << 63) // weight
            for node, point in nodes
            for digit in (0, 1)
        ]
    return [((point ^ shift) >> 11) / 2**53 for point in points]  # the bits of a float


def _digest(*what: object) -> bytes:
    return hashlib.sha256("|".join(map(str, what)).encode()).digest()
