"""The names of the effects that a user may leave out, and the least strength. PURE.

A file of its own: the command line needs the names at its start, and the effects themselves import pydantic.
"""

from __future__ import annotations

from typing import Literal, get_args

EffectName = Literal["rotation", "brightness", "contrast", "saturation", "zoom", "noise", "speed", "mirror"]
EFFECT_NAMES: tuple[EffectName, ...] = get_args(EffectName)
STRENGTH_MIN = 0.1
