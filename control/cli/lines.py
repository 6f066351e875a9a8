"""The answers of the API on stdout: one JSON document with `--json`, otherwise lines of text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from video_refresher.models import (
        Attempt,
        BatchCost,
        Costs,
        Day,
        Link,
        Machine,
        Output,
        Quote,
        ShareLink,
        SourceInBatch,
        Summary,
    )

RFC_3339 = "%Y-%m-%dT%H:%M:%SZ"


def show(data: Any, as_json: bool, as_lines: Callable[[Any], Iterable[str]]) -> None:
    """Print the data as JSON, or as the lines that `as_lines` makes of it. Models become objects."""
    text = [json.dumps(data, default=_as_object)] if as_json else as_lines(data)
    print("".join(f"{line}\n" for line in text), end="", flush=True)


def _as_object(model: Any) -> Any:
    return model.model_dump(mode="json")


def none(_: Any) -> Iterable[str]:
    """Return no lines, for a command whose success needs no text."""
    return ()


def of_facts(facts: dict[str, str]) -> Iterator[str]:
    """Yield one line for each named value."""
    yield from (f"{name}: {value}" for name, value in facts.items())


def of_link(link: Link | ShareLink) -> Iterator[str]:
    """Yield the URL of a link."""
    yield link.url


def of_items(data: Summary | Machine | Sequence[Summary] | Sequence[Machine]) -> Iterator[str]:
    """Yield one line for each job, batch or machine, and for each of its outputs."""
    from video_refresher.models import Details, Machine, Model

    for item in [data] if isinstance(data, Model) else data:
        yield _machine_line(item) if isinstance(item, Machine) else _line(item)
        sources: list[SourceInBatch] = item.sources if isinstance(item, Details) else []
        for source in sources:
            yield from (f"  {_safe(source.name)}: {note}" for note in source.notes)
            for output in source.outputs:
                more = f"  {output.error.message}" if output.error else _variety(output) + _delivery(output)
                yield f"  {output.output_id}  {output.status:<9}  {_safe(output.name)}{more}"
        if isinstance(item, Details):
            yield from (line for attempt in item.attempts if attempt.reason for line in _failed(attempt))


def of_quotes(quotes: Quote | Sequence[Quote]) -> Iterator[str]:
    """Yield, for each quote, one line for each number of machines; the chosen one has a star."""
    from video_refresher.models import Quote

    every = [quotes] if isinstance(quotes, Quote) else quotes
    for quote in every:
        for point in quote.curve:
            line = f"{count(point.machines, 'machine')}  {point.makespan_s:>8.1f} s  ${point.cost_usd:.6f}"
            yield f"* {line}  {quote.size}" if point.machines == quote.machines else f"  {line}"
        if not quote.fits:
            yield "The results may not fit into the storage now: a submit would be refused."
    if len(every) > 1:
        yield f"{len(every)} batches, together ${sum(each.cost_usd for each in every):.6f}"


def of_costs(costs: Costs) -> Iterator[str]:
    """Yield one line for each day, each batch and each budget, and the sum."""
    for day in costs.days:
        yield f"{day.date}  {_paid(day)}  {day.machine_seconds:.1f} machine-seconds"
    for batch in costs.batches:
        yield f"{batch.batch_id}  {_paid(batch)}"
    for name, budget in (("day", costs.budget.day), ("month", costs.budget.month)):
        if budget:
            yield f"left of this {name}'s ${budget.cap_usd:g}: ${budget.left_usd:.6f}"
    yield f"${costs.cost_usd:.6f} in all; {costs.leaked_seconds:.1f} s leaked"


def count(number: int, noun: str) -> str:
    """Return a text like `   2 machines`, with the same width for one."""
    return f"{number:>4} {noun}{' ' if number == 1 else 's'}"


def _paid(row: Day | BatchCost) -> str:
    return f"${row.cost_usd:.6f}  {count(row.machines, 'machine')}  {count(row.outputs, 'output')}"


def _machine_line(item: Machine) -> str:
    owner = "orphan" if item.orphan else item.job_id
    return f"{item.machine_id}  {item.state:<10}  {item.region}  {item.created_at:{RFC_3339}}  {owner}"


def _line(item: Summary) -> str:
    progress = item.progress
    facts = f"{item.status:<9}  {progress.ready}/{progress.total} ready  {item.created_at:{RFC_3339}}"
    problem = item.error or item.waiting
    texts = [item.id, facts, _safe(_called(item))]
    return "  ".join([*texts, problem.message] if problem else texts)


def _failed(attempt: Attempt) -> Iterator[str]:
    """Yield why an attempt failed, the end of its runner's log, and the command that shows all of it."""
    yield f"  {attempt.attempt_id}  {attempt.state:<9}  {attempt.reason_text}"
    yield from (f"    {_safe(line)}" for line in (attempt.log_tail or "").splitlines())
    if attempt.machine_id:
        yield f"    all of its log: fly logs --machine {attempt.machine_id} --app {attempt.app}"


def _variety(output: Output) -> str:
    if output.variety is None:
        return ""
    sibling = output.variety.sibling
    nearest = "" if sibling is None else f", {sibling:.3f} from the nearest other"
    return f"  {output.variety.source:.3f} from its source{nearest}"


def _delivery(output: Output) -> str:
    if output.delivery_error:
        return f"  not delivered: {output.delivery_error}"
    return "  delivered" if output.delivered else ""


def _called(item: Summary) -> str:
    """Return the name of a batch, or what its sources are called."""
    more = item.sources_count - len(item.source_names)
    return item.name or ", ".join(item.source_names) + (f" and {more} more" if more else "")


def _safe(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name)
