"""FFmpeg arguments: stored once for outputs that were made together, and read as they were reported."""

from __future__ import annotations

import pytest
from sqlmodel import Session

from control.passes.launch import launch
from control.store import changes, reports, retention
from control.store.arguments import arguments_of
from control.store.rows import jobs_of, outputs_of
from control.store.tables import Arguments, Output
from runner.contract import Finish, OutputReport, Timings, Usage
from tests.support.rows import Rows, made, seen


def reported(rows: Rows, job_id: str, said: dict[str, list[str]]) -> None:
    """Have a machine report all outputs ready, with these arguments by the output's id."""
    reports.claim(rows.store, f"{job_id}-1", "m1")
    done = [
        OutputReport(output_id=id_, status="ready", file=made().model_copy(update={"ffmpeg_args": args}))
        for id_, args in said.items()
    ]
    usage = Usage(wall_s=1, cpu_s=1, timings=Timings())
    message = Finish(seq=1, outcome="ok", outputs=done, usage=usage)
    reports.finish(rows.store, f"{job_id}-1", message, seen(*rows.outputs(job_id)))


def shown(rows: Rows, job_id: str) -> dict[str, list[str] | None]:
    with Session(rows.engine) as session:
        jobs = jobs_of(session, [rows.job(job_id).batch_id])
        found = outputs_of(session, jobs, rows_at_once=2)
        return {output.id: arguments_of(output, packed) for output, packed in found}


def of_a_group(outputs: list[Output]) -> dict[str, list[str]]:
    """Return arguments as a runner reports them of outputs that were made together."""
    return {
        own.id: [
            word
            for each in outputs
            for end in ["" if each is own else f"-var{each.variation:02}"]
            for word in (
                "-map",
                f"[f=mp4]file:OUTPUT{end}|[f=framehash]file:PACKETS{end}",
                f"file:POSTER{end}",
            )
        ]
        for own in outputs
    }


def test_outputs_that_were_made_together_share_one_row_and_each_has_its_own_arguments(
    context, rows, machines
):
    job_id = rows.submit(variations=12)
    launch(context)
    outputs = rows.outputs(job_id)
    said = of_a_group(outputs[:6]) | of_a_group(outputs[6:])
    reported(rows, job_id, said)
    assert shown(rows, job_id) == said
    assert len(rows.all(Arguments)) == 2
    assert {output.ffmpeg_args for output in rows.outputs(job_id)} == {None}


@pytest.mark.parametrize(
    "args",
    [
        ["-i", "file:OUTPUT-var01", "file:OUTPUT"],  # its own label, which no runner of ours uses
        ["file:OUTPUT-var012", "OUTPUTS", "XOUTPUT", "OUTPUT-"],
        ["OUTPUT-var01-x", "OUTPUT OUTPUT", "POSTER|PACKETS", ""],
        [],
    ],
)
def test_any_arguments_are_read_as_they_were_reported(context, rows, machines, args):
    job_id = rows.submit(variations=1)
    launch(context)
    said = {output.id: args for output in rows.outputs(job_id)}
    reported(rows, job_id, said)
    assert shown(rows, job_id) == said


def test_arguments_in_rows_of_earlier_releases_are_still_read(rows):
    job_id = rows.submit(variations=1)
    with rows.store.transaction() as tx:
        for output in tx.outputs(job_id):
            output.ffmpeg_args = ["-i", "file:SOURCE"]
    assert list(shown(rows, job_id).values()) == [["-i", "file:SOURCE"]]


@pytest.mark.parametrize("end", ["expired", "deleted"])
def test_arguments_go_with_the_zip_that_shows_them(context, rows, machines, end):
    job_id = rows.submit(variations=4)
    launch(context)
    reported(rows, job_id, of_a_group(rows.outputs(job_id)))
    assert rows.all(Arguments)
    if end == "expired":
        retention.files_gone(rows.store, job_id)
        assert set(shown(rows, job_id).values()) == {None}
    else:
        changes.remove_rows(rows.store, rows.job(job_id).batch_id)
        assert rows.all(Output) == []
    assert rows.all(Arguments) == []
