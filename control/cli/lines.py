"""The data of the API on stdout: one JSON document with `--json`, otherwise lines of text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any


def show(data: Any, as_json: bool, as_lines: Callable[[Any], Iterable[str]]) -> None:
    """Print the data as JSON, or as the lines that `as_lines` makes of it."""
    text = [json.dumps(data)] if as_json else as_lines(data)
    print("".join(f"{line}\n" for line in text), end="", flush=True)


def none(_: Any) -> Iterable[str]:
    """Return no lines, for a command whose success needs no text."""
    return ()


def of_facts(facts: dict[str, str]) -> Iterator[str]:
    """Yield one line for each named value."""
    yield from (f"{name}: {value}" for name, value in facts.items())


def of_items(data: dict[str, Any] | list[dict[str, Any]]) -> Iterator[str]:
    """Yield one line for each job, batch or machine, and for each of its outputs."""
    for item in data if isinstance(data, list) else [data]:
        yield _line(item)
        for source in item.get("sources", ()):
            for output in source["outputs"]:
                problem = f"  {output['error']['message']}" if output["error"] else ""
                yield f"  {output['output_id']}  {output['status']:<9}  {_safe(output['name'])}{problem}"


def of_quote(quote: dict[str, Any]) -> Iterator[str]:
    """Yield one line for each number of machines; the chosen one has a star."""
    for point in quote["curve"]:
        machines = count(point["machines"], "machine")
        line = f"{machines}  {point['makespan_s']:>8.1f} s  ${point['cost_usd']:.6f}"
        yield f"* {line}  {quote['size']}" if point["machines"] == quote["machines"] else f"  {line}"
    if not quote["fits"]:
        yield "The results may not fit into the storage now: a submit would be refused."


def of_costs(costs: dict[str, Any]) -> Iterator[str]:
    """Yield one line for each day, each batch and each budget, and the sum."""
    for day in costs["days"]:
        yield f"{day['date']}  {_paid(day)}  {day['machine_seconds']:.1f} machine-seconds"
    for batch in costs["batches"]:
        yield f"{batch['batch_id']}  {_paid(batch)}"
    for name, budget in costs["budget"].items():
        if budget:
            yield f"left of this {name}'s ${budget['cap_usd']:g}: ${budget['left_usd']:.6f}"
    yield f"${costs['cost_usd']:.6f} in all; {costs['leaked_seconds']:.1f} s leaked"


def count(number: int, noun: str) -> str:
    """Return a text like `   2 machines`, with the same width for one."""
    return f"{number:>4} {noun}{' ' if number == 1 else 's'}"


def _paid(row: dict[str, Any]) -> str:
    return f"${row['cost_usd']:.6f}  {count(row['machines'], 'machine')}  {count(row['outputs'], 'output')}"


def _line(item: dict[str, Any]) -> str:
    if "machine_id" in item:
        owner = "orphan" if item["orphan"] else item["job_id"]
        return f"{item['machine_id']}  {item['state']:<10}  {item['region']}  {item['created_at']}  {owner}"
    progress = item["progress"]
    facts = f"{item['status']:<9}  {progress['ready']}/{progress['total']} ready  {item['created_at']}"
    problem = item["error"] or item["waiting"]
    texts = [item.get("job_id") or item["batch_id"], facts, _safe(_called(item))]
    return "  ".join([*texts, problem["message"]] if problem else texts)


def _called(item: dict[str, Any]) -> str:
    """Return the name of a batch, or what its sources are called."""
    more = item["sources_count"] - len(item["source_names"])
    return item["name"] or ", ".join(item["source_names"]) + (f" and {more} more" if more else "")


def _safe(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name)
