"""The recipe of an output as its row holds it: JSON that an older or newer control may have written."""

from __future__ import annotations

from control.store.tables import Output
from runner.contract import Effects


def recipe_of(output: Output) -> Effects | None:
    """Return the effects of an output, or None of a preset.

    A field that the row lacks, since it was written before the field was added, has its neutral value; one
    that is unknown here is ignored.
    """
    return Effects.model_validate(output.effects) if output.effects else None
