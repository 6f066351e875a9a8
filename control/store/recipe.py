"""Reads from its rows how an output is made and how it came out: another version may have written them."""

from __future__ import annotations

from control.domain.encoding import Encoding
from control.store.tables import Batch, Output
from runner.contract import Effects, Variety


def recipe_of(output: Output) -> Effects | None:
    """Return the effects of an output, or None for a preset.

    A field that an older version did not write gets its neutral value. A field that is unknown is ignored.
    """
    return Effects.model_validate(output.effects) if output.effects else None


def variety_of(output: Output) -> Variety | None:
    """Return how far an output lies from its source and its siblings, or None if that is unknown."""
    if output.variety_source is None:
        return None
    return Variety(source=output.variety_source, sibling=output.variety_sibling)


def encoding_of(batch: Batch) -> Encoding:
    """Return how the variations of a batch are encoded."""
    return Encoding(quality=batch.quality, frame_rate=batch.frame_rate)  # type: ignore[arg-type]  # as accepted
