"""Ids: a prefix that says what an id names, then 128 random bits."""

from __future__ import annotations

import secrets


def new_id(prefix: str) -> str:
    """Return a new id such as `job_9f...`: URL-safe, lower case, valid in a bucket key."""
    return f"{prefix}_{secrets.token_hex(16)}"


def attempt_id(job_id: str, number: int) -> str:
    """Return the id of a job's `number`-th attempt, counted from 1."""
    return f"{job_id}-{number}"


def machine_name(attempt_id: str) -> str:
    """Return the name of an attempt's machine. It is derived, so a repeated create call finds the first one.

    Fly allows letters, digits and dashes in names.
    """
    return attempt_id.replace("_", "-")
