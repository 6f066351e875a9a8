"""The health of control, and the state of the services that it needs."""

from __future__ import annotations

from pydantic import BaseModel


class Health(BaseModel):
    """The process is alive."""

    status: str
    version: str
    active_jobs: int


class Ready(BaseModel):
    """The state of each service that control needs: `ok`, or the problem."""

    ready: bool
    parts: dict[str, str]
