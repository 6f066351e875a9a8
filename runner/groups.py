"""Groups the outputs of a source: the others of a group use the analysis and the sound of the first.

Pure. Sharing works only among outputs of equal speed, noise, quality and frame rate (docs/performance.md), so
an output that differs too much from the first of a group starts a new group. A shift needs no limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runner.contract import Effects, OutputSpec

OTHERS_MAX = 3
ZOOM_APART_MAX = 0.051
ROTATION_APART_MAX = 0.021


@dataclass(frozen=True)
class Group:
    """The first is made alone and analysed. The `others` are made from one decoding, with its analysis."""

    first: OutputSpec
    others: tuple[OutputSpec, ...] = ()


def grouped(outputs: Sequence[OutputSpec], *, others_max: int = OTHERS_MAX) -> list[Group]:
    """Return the outputs in groups, in order of their first ones."""
    groups: list[Group] = []
    for output in outputs:
        fitting = (n for n, group in enumerate(groups) if _fits(output, group, others_max))
        place = next(fitting, None)
        if place is None:
            groups.append(Group(output))
        else:
            groups[place] = Group(groups[place].first, (*groups[place].others, output))
    return groups


def _fits(output: OutputSpec, group: Group, others_max: int) -> bool:
    if output.effects is None or group.first.effects is None or output.style != group.first.style:
        return False
    return len(group.others) < others_max and _alike(output.effects, group.first.effects)


def _alike(one: Effects, other: Effects) -> bool:
    return (
        one.noise == other.noise
        and one.speed == other.speed
        and abs(one.zoom - other.zoom) <= ZOOM_APART_MAX
        and abs(one.rotation_rad - other.rotation_rad) <= ROTATION_APART_MAX
    )
