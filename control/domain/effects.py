"""From a seed to the effects of each variation. PURE.

Must stay stable: the same source, seed and image give the same effects, so a change here is a new image.
"""

from __future__ import annotations

import hashlib
from random import Random

from runner.contract import Effects

SIBLINGS = 4  # so many variations share `noise` and `speed`, and with them decoding, timing and sound


def effects(*, seed: int, fingerprint: str, variation: int) -> Effects:
    """Return the recipe of a source's variation (counted from 1), whatever their total number.

    `fingerprint` stands for the source's content. Ranges: docs/glossary.md. Draws are rounded to six
    digits, far below what an eye sees; two of a source's hundred being equal in all six free draws does
    not happen.
    """
    own = _dice(seed, fingerprint, "variation", variation)
    group = _dice(seed, fingerprint, "group", (variation - 1) // SIBLINGS)
    turn = 1 if own.random() < 0.5 else -1
    return Effects(
        rotation_rad=turn * _between(own, 0.001, 0.01),
        brightness=_between(own, -0.05, 0.05),
        contrast=_between(own, 0.95, 1.05),
        saturation=_between(own, 0.95, 1.05),
        zoom=_between(own, 1.0, 1.05),
        mirror=own.random() < 0.5,
        noise=int(group.random() * 9),
        speed=_between(group, 0.97, 1.03),
    )


def tag(*, seed: int, fingerprint: str, variation: int) -> str:
    """Return the six hex digits of a variation's file name."""
    return _digest(seed, fingerprint, "name", variation).hex()[:6]


def _dice(*what: object) -> Random:
    return Random(_digest(*what))  # noqa: S311 - not for secrets


def _digest(*what: object) -> bytes:
    return hashlib.sha256("|".join(map(str, what)).encode()).digest()


def _between(dice: Random, low: float, high: float) -> float:
    return round(low + (high - low) * dice.random(), 6)
