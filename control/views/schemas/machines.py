"""Machines as the cloud shows them."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel


class MachineView(BaseModel):
    """A machine as the cloud shows it now. An orphan belongs to no known attempt."""

    machine_id: str
    name: str
    app: str
    region: str
    state: str
    created_at: datetime
    job_id: str | None
    attempt_id: str | None
    orphan: bool


class MachineList(BaseModel):
    """Machines as Fly last showed them. `observed_at` is null before its first answer."""

    items: list[MachineView]
    observed_at: datetime | None
