"""The variety of outputs: what a machine is told to compare with, and what control shows."""

from __future__ import annotations

from runner.contract import OutputError, OutputFault, OutputReport
from tests.support.maker import Maker, stored
from tests.support.user import outputs


def test_a_machine_compares_with_all_variations_of_the_batch_also_in_a_retry(maker: Maker) -> None:
    batch = maker.submit(variations=3)
    job_id = batch["jobs"][0]["job_id"]
    spec = maker.claim(job_id)
    every = [output.effects for output in spec.outputs]
    assert spec.sources[0].variations == every
    error = OutputError(code=OutputFault.RENDER_FAILED, message="no")
    failed = [
        OutputReport(output_id=output.output_id, status="failed", error=error) for output in spec.outputs[1:]
    ]
    assert maker.finish(spec, [stored(spec.outputs[0], b"a"), *failed]).status_code == 200
    shown = [output["variety"] for output in outputs(maker.show(batch["batch_id"]))]
    assert shown == [{"source": 0.041, "sibling": 0.017}, None, None]
    assert maker.http.post(f"/api/batches/{batch['batch_id']}/retry").status_code == 202
    again = maker.claim(job_id)
    assert [output.effects for output in again.outputs] == every[1:]
    assert again.sources[0].variations == every


def test_one_variation_alone_and_a_preset_have_nothing_to_compare_with(maker: Maker) -> None:
    for wish in ({"variations": 1}, {"preset": "copy"}):
        spec = maker.claim(maker.submit(**wish)["jobs"][0]["job_id"])
        assert spec.sources[0].variations == []
