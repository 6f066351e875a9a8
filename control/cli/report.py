"""The result of a batch, as data for programs and as a table for people. PURE."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Group
from rich.filesize import decimal
from rich.padding import Padding
from rich.table import Table
from rich.text import Text


def outcome(
    batch: dict[str, Any],
    jobs: Sequence[dict[str, Any]],
    *,
    refused: Sequence[dict[str, str]],
    out: str | None,
) -> dict[str, Any]:
    """Return the result of a batch, from the batch, its jobs, the refused files, and the folder of the files.

    `cost_usd` of an output is its share of the cost of its job, lost attempts included. The cost is shared by
    length among the ready outputs of the job. The cost of a job without ready outputs is only in the total.
    """
    shares = {id_: usd for job in jobs for id_, usd in _shares(job)}
    return {
        "batch_id": batch["batch_id"],
        "status": batch["status"],
        "partial": batch["partial"],
        "out": out,
        "cost_usd": round(sum(job["cost_usd"] for job in jobs), 6),
        "machine_seconds": round(sum(each["machine_seconds"] for job in jobs for each in job["attempts"]), 3),
        "outputs": [{**output, "cost_usd": shares.get(output["output_id"])} for output in _outputs(batch)],
        "notes": [
            {"name": source["name"], "message": note}
            for source in batch["sources"]
            for note in source.get("notes", ())
        ],
        "refused": list(refused),
    }


def is_whole(result: dict[str, Any]) -> bool:
    """Return whether the result has everything that was requested."""
    return result["status"] == "completed" and not result["partial"] and not result["refused"]


def _shares(job: dict[str, Any]) -> Iterable[tuple[str, float]]:
    ready = [output for output in _outputs(job) if output["status"] == "ready"]
    length_s = sum(output["duration_s"] for output in ready)
    for output in ready:
        yield output["output_id"], round(job["cost_usd"] * output["duration_s"] / length_s, 6)


def _outputs(shown: dict[str, Any]) -> list[dict[str, Any]]:
    return [output for source in shown["sources"] for output in source["outputs"]]


def table(result: dict[str, Any], *, is_free: bool = False) -> Group:
    """Return the result for a terminal with at least 80 columns. Failures are red.

    `is_free`: the machines were local, and the cost is what Fly would have charged.
    """
    rows = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    rows.add_column("file and effects", overflow="fold")
    for name in ("size", "duration", "cost"):
        rows.add_column(name, justify="right", no_wrap=True)
    for output in result["outputs"]:
        if output["status"] == "ready":
            made = output["preset"] or _effects(output["effects"])
            rows.add_row(_two_lines(output["name"], made), *_figures(output))
        else:
            problem = output["error"] or {"message": output["status"]}
            rows.add_row(_two_lines(output["name"], problem["message"], "red"), "-", "-", "-")
    for each in result["notes"]:
        rows.add_row(_two_lines(each["name"], each["message"], "yellow"), "-", "-", "-")
    for each in result["refused"]:
        rows.add_row(_two_lines(each["name"], each["message"], "red"), "-", "-", "-")
    return Group(rows, "", _ending(result), _cost(result, is_free=is_free))


def _two_lines(name: str, text: str, style: str = "") -> Group:
    return Group(Text(name, style=style), Padding(Text(text, style=style or "dim"), (0, 0, 0, 2)))


def _figures(output: dict[str, Any]) -> tuple[str, str, str]:
    return decimal(output["size_bytes"]), f"{output['duration_s']:.2f} s", f"${output['cost_usd']:.6f}"


def _effects(effects: dict[str, Any]) -> str:
    """Return the effects as text that wraps between them, into two lines at 80 columns."""
    return (
        f"turn={effects['rotation_rad']:+.4f} zoom={effects['zoom']:.3f} speed={effects['speed']:.3f} "
        f"noise={effects['noise']} light={effects['brightness']:+.3f} colour={effects['saturation']:.3f} "
        f"contrast={effects['contrast']:.3f}" + (" mirror" if effects["mirror"] else "")
    )


def _ending(result: dict[str, Any]) -> Text:
    ready = sum(output["status"] == "ready" for output in result["outputs"])
    text = f"{result['status']}: {ready} of {len(result['outputs'])} ready"
    if result["out"]:
        text += f", in {result['out']}"
    if refused := len(result["refused"]):
        text += f"; {refused} of the files {'was' if refused == 1 else 'were'} refused"
    return Text(text, style="green" if is_whole(result) else "red")


def _cost(result: dict[str, Any], *, is_free: bool) -> Text:
    seconds, usd = result["machine_seconds"], result["cost_usd"]
    text = f"Cost: ${usd:.6f} for {seconds:.1f} machine-seconds at Fly's prices"
    return Text(f"{text}; free here." if is_free else f"{text}.")
