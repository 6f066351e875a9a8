"""Reads the recipe of an output from its row: JSON that an older or newer control may have written."""

from __future__ import annotations

from control.store.tables import Output
from runner.contract import Effects


def recipe_of(output: Output) -> Effects | None:
    """Return the effects of an output, or None for a preset.

    A field that an older version did not write gets its neutral value. A field that is unknown is ignored.
    """
    return Effects.model_validate(output.effects) if output.effects else None
