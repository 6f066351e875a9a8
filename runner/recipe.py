"""Makes the arguments with which the kernel draws one output (`runner/kernel/effects.c`). Pure.

`runner.graph` has the same effects as filters of FFmpeg, for machines without the kernel and for second
tries.
"""

from __future__ import annotations

from runner.contract import Effects
from runner.graph import number

SIDE_MAX = 8192  # as in effects.c
OTHERS_MAX = 128  # as there: more than a batch has variations of one source
# Within these limits the kernel's two passes equal the filters; our effects stay far below them.
ROTATION_MAX, BRIGHTNESS_MAX, NOISE_MAX = 0.1, 0.5, 50
ZOOM, CONTRAST, SATURATION = (1.0, 4.0), (0.5, 1.5), (0.0, 1.5)


def recipe_of(effects: Effects) -> str:
    """Return the recipe: all that a frame of the output depends on, apart from the source."""
    values = [
        *[effects.rotation_rad, effects.zoom, effects.shift_x, effects.shift_y, float(effects.mirror)],
        *[effects.brightness, effects.contrast, effects.saturation, float(effects.noise)],
    ]
    return ":".join(number(value) for value in values)


def is_drawable(effects: Effects, *, width: int, height: int) -> bool:
    """Return whether the kernel takes these effects and this even size."""
    return (
        max(width, height) <= SIDE_MAX
        and abs(effects.rotation_rad) <= ROTATION_MAX
        and abs(effects.brightness) <= BRIGHTNESS_MAX
        and 0 <= effects.noise <= NOISE_MAX
        and _is_in(effects.zoom, ZOOM)
        and _is_in(effects.contrast, CONTRAST)
        and _is_in(effects.saturation, SATURATION)
    )


def _is_in(value: float, bounds: tuple[float, float]) -> bool:
    return bounds[0] <= value <= bounds[1]
