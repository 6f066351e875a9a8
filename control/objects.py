"""Where files are in the bucket, and how they go: the one home of deleting them."""

from __future__ import annotations

from collections.abc import Iterator

from control.parts import Parts
from control.tables import Output

PAGE = 1000  # as many as the bucket lists and deletes in one call


def outputs_prefix(owner_id: str) -> str:
    """Return where this control's outputs are; the next part of a key is the attempt's id."""
    return f"{owner_id}/outputs/"


def delete_of_job(parts: Parts, job_id: str) -> None:
    """Delete all that any attempt of the job has stored, reported or not. Raises OutsideError: call again."""
    prefix = f"{outputs_prefix(parts.store.owner_id)}{job_id}-"
    page = parts.storage.list_objects(prefix)
    while page:
        parts.storage.delete_many([found.key for found in page])
        page = parts.storage.list_objects(prefix) if len(page) == PAGE else ()


def named_by(output: Output) -> Iterator[str]:
    """Yield the key of each file that the output's row names."""
    if output.key is not None:
        yield output.key
    for extra in (output.playlist, output.poster):
        if extra:
            yield extra["key"]
