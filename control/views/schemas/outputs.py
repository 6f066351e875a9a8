"""Outputs and their files."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from control.views.schemas.base import Problem


class FileView(BaseModel):
    """One of the files that an output consists of. `name` is its path in the ZIP."""

    name: str
    size_bytes: int
    sha256: str


class VarietyView(BaseModel):
    """How far an output lies from its source and from its nearest sibling: 0 is equal, 1 black against white.

    The mean difference of small grey pictures, as the effects change them. It says nothing about what others
    take for a copy.
    """

    source: float
    sibling: float | None  # null: the batch has one variation of the source


class OutputView(BaseModel):
    """One result. `size_bytes` and `sha256` of an `hls` output are those of its media file."""

    output_id: str
    name: str
    variation: int  # 0 with a preset
    preset: str | None
    status: str
    percent: float
    size_bytes: int | None
    duration_s: float | None
    sha256: str | None
    effects: dict[str, Any]
    variety: VarietyView | None  # of a ready variation; null where it was not measured
    files: list[FileView] | None  # of a ready `hls` output, which is a folder with two files
    poster: bool  # whether there is one at `/api/outputs/{output_id}/poster`
    error: Problem | None
    delivered: bool | None = None  # whether it was PUT to its own URL too; null: there was none
    delivery_error: str | None = None  # why that failed
