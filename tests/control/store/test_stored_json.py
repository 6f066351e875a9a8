"""JSON in rows is read by newer code: after a deploy there are queued rows of the version before.

`tests/contract_samples/rows/` keeps what each released version stored: add a file for each new field.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from control.passes.launch import launch
from control.routes.runner import job_spec
from control.store import reports
from control.store.files import StoredFile
from control.store.recipe import recipe_of
from control.store.tables import Output
from runner.contract import Effects

SAMPLES = Path(__file__).parents[2] / "contract_samples" / "rows"


def samples(kind: str) -> list[dict[str, object]]:
    found = [json.loads(path.read_text()) for path in sorted(SAMPLES.glob(f"{kind}_*.json"))]
    assert found
    return found


def output(effects: dict[str, object]) -> Output:
    return Output(effects=effects)


def test_every_effect_has_a_default_so_that_rows_from_before_it_can_be_read():
    assert [name for name, field in Effects.model_fields.items() if field.is_required()] == []


def test_the_recipe_of_every_released_version_is_read_as_it_was_written():
    for stored in samples("effects"):
        said = recipe_of(output(stored)).model_dump()
        assert {name: said[name] for name in stored} == stored


@pytest.mark.parametrize("missing", sorted(Effects.model_fields))
def test_a_row_that_is_older_than_an_effect_does_not_use_it(missing):
    for stored in samples("effects"):
        older = {name: value for name, value in stored.items() if name != missing}
        assert getattr(recipe_of(output(older)), missing) == getattr(Effects(), missing)


def test_no_effects_mean_a_preset_and_unknown_fields_are_ignored():
    assert recipe_of(output({})) is None
    assert recipe_of(output({"zoom": 1.02, "of_the_future": 7})) == Effects(zoom=1.02)


def test_the_files_of_every_released_version_are_read_with_fields_of_newer_ones():
    for stored in samples("file"):
        assert StoredFile.read(stored) == StoredFile(**stored)
        assert StoredFile.read({**stored, "of_the_future": 7}) == StoredFile(**stored)


def test_a_job_queued_before_a_deploy_is_made_after_it(context, rows, machines):
    job_id = rows.submit()
    with rows.store.transaction() as tx:
        for row in tx.outputs(job_id):
            row.effects = {name: value for name, value in row.effects.items() if name != "noise"}
    launch(context)
    reports.claim(context.store, f"{job_id}-1", "m1")
    assert [one.effects.noise for one in job_spec(context, f"{job_id}-1").outputs] == [0, 0]
