"""Bases of requests and of lists, and the types that several nouns share."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, StringConstraints, model_validator

from infra.outbound import URL_CHARS_MAX

NAME_CHARS_MAX = 255
# any text without NUL, which PostgreSQL can neither store nor look for
Id = Annotated[str, StringConstraints(max_length=64, pattern=r"^[^\x00]*$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=NAME_CHARS_MAX, pattern=r"^[^\x00]*$")]
Url = Annotated[str, StringConstraints(min_length=1, max_length=URL_CHARS_MAX)]


class Request(BaseModel):
    """Base of requests. An unknown field is refused: to ignore it would hide a mistake of the client.

    The number of problems that a body can have is bounded, since each takes memory and time: a long list
    has a `max_length` and, if that is large, `fail_fast`; an object has no more fields than its model.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, given: Any) -> Any:
        if isinstance(given, dict) and len(given) > len(cls.model_fields):
            unknown = next(name for name in given if name not in cls.model_fields)
            raise ValueError(f"there is no field {unknown[:50]!r} here")
        return given


def like(example: dict[str, Any]) -> ConfigDict:
    """Return the configuration of a request model with this example for the OpenAPI document."""
    return ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": [example]})


class Problem(BaseModel):
    """A code and a sentence for people."""

    code: str
    message: str


Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """A part of a list, newest first. `next_cursor` is null on the last page."""

    items: list[Item]
    next_cursor: str | None
