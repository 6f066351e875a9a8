"""The events of a stream (Server-Sent Events, as control writes them)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from video_refresher.models import Model, Output, ProgressEvent, StateEvent

SILENCE_S_MAX = 45.0  # without a byte of an event stream, which sends a ping three times as often

_DATA: dict[str, type[Model]] = {
    "state": StateEvent,
    "end": StateEvent,
    "output": Output,
    "progress": ProgressEvent,
}


@dataclass(frozen=True)
class Event:
    """One event of a stream: `state`, `output`, `progress` or `end`, with data of that kind.

    A later stream resumes after the `id`; a `progress` event has none.
    """

    name: str
    data: StateEvent | Output | ProgressEvent
    id: int | None


def events(lines: Iterable[str]) -> Iterator[Event]:
    """Yield the events of a stream, each of which has one line of data. Skips kinds that are not known."""
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if name:  # a comment has none
            fields[name] = value
        elif not line:
            model = _DATA.get(fields.get("event", ""))
            if "data" in fields and model:
                data: Any = model.model_validate(json.loads(fields["data"]))
                yield Event(fields["event"], data, int(fields["id"]) if "id" in fields else None)
            fields = {}
