"""Links to download outputs as a ZIP."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from control.planning.planner import OUTPUTS_PER_BATCH_MAX
from control.views.schemas.base import Id, Request, like


class LinkWanted(Request):
    """The outputs of a download link; without `output_ids` all."""

    model_config = like({"output_ids": ["out_0123456789abcdef0123456789abcdef"]})

    output_ids: (
        Annotated[
            list[Id],
            Field(min_length=1, max_length=OUTPUTS_PER_BATCH_MAX, fail_fast=True),
        ]
        | None
    ) = None


class DownloadLink(BaseModel):
    """A URL of the ZIP that needs no header, and when it expires."""

    url: str
    expires_at: datetime
