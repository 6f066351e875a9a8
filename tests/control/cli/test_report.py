"""The result of a batch: each output's share of the cost, and a table that fits a terminal."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console

from control.cli.report import is_whole, outcome, table

EFFECTS = {"rotation_rad": -0.00412, "zoom": 1.03212, "speed": 0.98712, "noise": 5, "mirror": True}
EFFECTS |= {"brightness": 0.0123, "saturation": 0.9912, "contrast": 1.0123}
LONG = "my summer ad, the final version/my summer ad, the final version_var01_a1b2c3.mp4"
CUT = {"name": "cut.mp4", "message": "This file is incomplete. Upload the whole of it."}


def output(id_: str, **more: Any) -> dict[str, Any]:
    name = f"ad/ad_var{id_}_a1b2c3.mp4"
    ready = {"status": "ready", "size_bytes": 976_300, "duration_s": 4.0, "error": None, "preset": None}
    return {"output_id": id_, "name": name, "effects": EFFECTS, **ready, **more}


FAILED = output("2", status="failed", error={"code": "source_unreadable", "message": "It is damaged."})


def job(cost_usd: float, *outputs: dict[str, Any], tries: int = 1) -> dict[str, Any]:
    attempts = [{"machine_seconds": 2.5}] * tries
    return {"cost_usd": cost_usd, "attempts": attempts, "sources": [{"outputs": outputs}]}


def came(*jobs: dict[str, Any], refused: tuple[dict[str, str], ...] = ()) -> dict[str, Any]:
    sources = [source for each in jobs for source in each["sources"]]
    is_partial = any(each["status"] != "ready" for source in sources for each in source["outputs"])
    batch = {"batch_id": "bat_1", "status": "completed", "partial": is_partial, "sources": sources}
    return outcome(batch, jobs, refused=refused, out="demo-out")


def shown(result: dict[str, Any], *, columns: int = 80, colours: bool = False) -> str:
    text = io.StringIO()
    Console(file=text, width=columns, force_terminal=colours, no_color=not colours).print(
        table(result, is_free=True)
    )
    return text.getvalue()


def test_a_job_s_cost_is_shared_by_length_among_what_is_ready_and_no_other_job_pays() -> None:
    result = came(
        job(0.04, output("1", duration_s=1.0), FAILED, output("3", duration_s=3.0)),
        job(0.5, output("4"), tries=2),
    )
    assert [each["cost_usd"] for each in result["outputs"]] == [0.01, None, 0.03, 0.5]
    assert (result["cost_usd"], result["machine_seconds"]) == (0.54, 7.5)


def test_what_a_job_without_results_has_cost_is_in_the_total() -> None:
    result = came(job(0.25, FAILED), job(0.5, output("1")))
    assert result["cost_usd"] == 0.75


@pytest.mark.parametrize("columns", [80, 200])
def test_names_figures_effects_and_the_cost_line_are_not_broken(columns: int) -> None:
    lines = shown(came(job(1.5, output("1"), tries=5000)), columns=columns).splitlines()
    assert lines[0].split() == ["file", "and", "effects", "size", "duration", "cost"]
    assert lines[2].split() == ["ad/ad_var1_a1b2c3.mp4", "976.3", "kB", "4.00", "s", "$1.500000"]
    assert "contrast=1.012 mirror" in lines[3 if columns == 200 else 4]
    assert lines[-1].startswith("Cost: $1.500000 for 12500.0 machine-seconds at Fly's prices; free")
    assert len(lines) == (7 if columns == 200 else 8)


def test_a_long_name_and_a_long_reason_leave_the_figures_whole() -> None:
    failed = {"code": "source_unreadable", "message": "This video cannot be decoded to its end. " * 5}
    text = shown(came(job(0.5, output("1", name=LONG), {**FAILED, "error": failed})))
    assert "976.3 kB    4.00 s  $0.500000" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("result", "whole", "said"),
    [
        (came(job(0.5, output("1"))), True, "completed: 1 of 1 ready, in demo-out"),
        (came(job(0.5, output("1"), FAILED)), False, "completed: 1 of 2 ready, in demo-out"),
        (
            came(job(0.5, output("1")), refused=(CUT,)),
            False,
            "completed: 1 of 1 ready, in demo-out; 1 of the files was refused",
        ),
    ],
    ids=["whole", "partial", "refused"],
)
def test_only_a_whole_result_is_green(result: dict[str, Any], whole: bool, said: str) -> None:
    green, red = "\x1b[32m", "\x1b[31m"
    text = shown(result, colours=True)
    assert is_whole(result) is whole
    assert (green if whole else red) + said in text
    assert (red in text) is not whole


def test_a_file_that_was_refused_is_in_the_table_with_its_reason() -> None:
    text = shown(came(job(0.5, output("1")), refused=(CUT,)), columns=120)
    assert all(word in text for word in CUT.values())


def test_what_could_not_be_used_of_a_source_is_in_the_table() -> None:
    noted = job(0.5, output("1"))
    noted["sources"][0] |= {"name": "rec.mp4", "notes": ["Only 2.0 s of 4.0 s could be read."]}
    result = came(noted)
    assert result["notes"] == [{"name": "rec.mp4", "message": "Only 2.0 s of 4.0 s could be read."}]
    assert is_whole(result)
    assert all(word in shown(result, columns=120) for word in result["notes"][0].values())


def test_the_data_is_json() -> None:
    result = came(job(0.5, output("1"), FAILED), refused=(CUT,))
    assert json.loads(json.dumps(result)) == result
    assert result["refused"] == [CUT]
