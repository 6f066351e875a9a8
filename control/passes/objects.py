"""Where files are in the bucket, and how they go: the one home of deleting them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from control.context import Parts
from infra.ports import ListedObject

PAGE = 1000  # as many as the bucket lists and deletes in one call


def outputs_prefix(owner_id: str) -> str:
    """Return where this control's outputs are; the next part of a key is the attempt's id."""
    return f"{owner_id}/outputs/"


def listed_of_job(parts: Parts, job_id: str) -> Iterator[ListedObject]:
    """Yield all that any attempt of the job has stored, reported or not. Raises OutsideError."""
    prefix = f"{outputs_prefix(parts.store.owner_id)}{job_id}-"
    page = parts.storage.list_objects(prefix)
    while page:
        yield from page
        page = parts.storage.list_objects(prefix, after=page[-1].key) if len(page) == PAGE else ()


def delete_of_job(parts: Parts, job_id: str) -> None:
    """Delete all that any attempt of the job has stored, reported or not. Raises OutsideError: call again."""
    delete(parts, [found.key for found in listed_of_job(parts, job_id)])


def delete(parts: Parts, keys: Sequence[str]) -> None:
    """Delete any number of objects. Raises OutsideError when some may be left."""
    for start in range(0, len(keys), PAGE):
        parts.storage.delete_many(keys[start : start + PAGE])
