"""Reads an answer of Fly's Machines API: the error that it means, or the machine that it shows. Pure.

Must never guess that a call was not done: an answer that does not say so is `Unanswered`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from infra.ports import Machine, MachineExit, Refusal

CAPACITY_STATUSES = frozenset({"insufficient_capacity", "volume_placement_capacity"})
# Texts of 409 and 412 (superfly/fly-go flaps_error_test, 2026-08; answers captured in public clients,
# 2026-11). Anchored, since a text may quote a machine's name, which can be anything.
_NO_CAPACITY = re.compile(
    r"aborted: (no capacity|could not reserve resource for machine|insufficient \w+ available)"
    r"|(could not reserve resource for machine|insufficient (resources|memory|CPUs))\b"
    r"|aborted$"
)
_MACHINE_LIMIT = re.compile(r"reached (its|your|the) machine limit", re.IGNORECASE)
_PAYMENT = re.compile(r"payment (information|method)|credit card|unpaid invoice", re.IGNORECASE)
_NO_IMAGE = re.compile(r"failed to get manifest|MANIFEST_UNKNOWN")
_NO_APP = re.compile(r"(could not find app|app( \S+)? not found)", re.IGNORECASE)
_NAME_HELD = re.compile(r"already_exists: unique machine name violation, machine ID (\S+) already exists")


def error_text(body: Any) -> str:
    """Return the text of an error's body; the lease routes have it under `message`."""
    if not isinstance(body, dict):
        return ""
    return str(body.get("error") or body.get("message") or "")


def refusal_of(status: int, body: Any) -> Refusal | None:
    """Return why Fly certainly did not do the call, or None if it may have done it or may still do it.

    `status` in the body outranks the text, which counts only when nothing else decides. 408 is a deadline
    inside Fly (flyctl internal/flapsutil/retry.go, 2026-08). A 409 or 412 that is not known here counts
    as a temporary state.
    """
    code = body.get("status") if isinstance(body, dict) else None
    if code in CAPACITY_STATUSES:
        return Refusal.CAPACITY
    if code == "name_taken":
        return Refusal.INVALID
    if status == 408 or not 400 <= status < 500:
        return None
    return _refusal_by_text(status, error_text(body)) or _refusal_by_status(status)


def _refusal_by_text(status: int, text: str) -> Refusal | None:
    """Return the refusal that the text shows, if any: these statuses have several meanings."""
    match status:
        case 403 if "over the allowed quota" in text:
            return Refusal.CAPACITY
        case 409 | 412 if _NO_CAPACITY.match(text):
            return Refusal.CAPACITY
        case 400 if text == "no capacity":  # seen for volumes (Kilo-Org/cloud PR 787)
            return Refusal.CAPACITY
        case 400 | 404 | 422 if _NO_IMAGE.match(text):
            return Refusal.IMAGE_NOT_FOUND
        case 403 | 422 if _MACHINE_LIMIT.search(text):
            return Refusal.MACHINE_LIMIT
        case 402 | 403 | 422 if status == 402 or _PAYMENT.search(text):
            return Refusal.PAYMENT_REQUIRED
        case 404 if _NO_APP.match(text):  # not made yet, or invisible for our token
            return Refusal.UNAUTHORIZED
        case _:
            return None


def _refusal_by_status(status: int) -> Refusal | None:
    match status:
        case 401 | 403:
            return Refusal.UNAUTHORIZED
        case 409 | 412:
            return None
        case 429:
            return Refusal.RATE_LIMITED
        case _:
            return Refusal.INVALID


def name_holder(status: int, body: Any) -> str | None:
    """Return the id of the live machine that has the requested name, if the answer names one."""
    held = _NAME_HELD.match(error_text(body)) if status == 409 else None
    return held[1] if held else None


def machine_of(app: str, shown: Any) -> Machine:
    """Return a machine from its JSON. Raises KeyError, TypeError or ValueError when it cannot be one.

    While its host does not answer, `config` may be missing and `incomplete_config` given (fly-go, 2026-08).
    """
    config = shown.get("config") or shown.get("incomplete_config") or {}
    events = shown.get("events") or []
    return Machine(
        app=app,
        id=shown["id"],
        name=shown["name"],
        state=shown["state"],
        region=shown["region"],
        created_at=_instant(shown["created_at"]),
        metadata=dict(config.get("metadata") or {}),
        started_at=_first_at(events, "start", "started"),
        exit=_last_exit(events),
        destroyed_at=_first_at(events, "destroy", "destroyed"),
        host_ok=shown.get("host_status", "ok") == "ok",
    )


def _first_at(events: list[dict[str, Any]], kind: str, status: str) -> datetime | None:
    """Return when the first event of this kind and status happened."""
    found = [each for each in events if each.get("status") == status and each.get("type") == kind]
    return min([_instant(event["timestamp"]) for event in found], default=None)


def _last_exit(events: list[dict[str, Any]]) -> MachineExit | None:
    exits = [(event, found) for event in events if (found := _exit_event(event))]
    if not exits:
        return None
    event, found = max(exits, key=lambda pair: pair[0].get("timestamp", 0))
    return MachineExit(
        exit_code=found.get("exit_code", 0),  # fly-go omits a zero
        signal=max(0, found.get("signal", 0), found.get("guest_signal", 0)),  # -1: none
        oom_killed=found.get("oom_killed", False),
        requested_stop=found.get("requested_stop", False),
        at=_instant(found.get("exited_at") or event["timestamp"]),
    )


def _exit_event(event: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the exit event in its new or its older place (fly-go `MachineRequest`, 2026-08)."""
    request = event.get("request") or {}
    monitor = request.get("MonitorEvent") or {}
    return request.get("exit_event") or monitor.get("exit_event")


def _instant(value: str | int) -> datetime:
    """Return an aware UTC instant from RFC 3339 or, as older events have it, milliseconds."""
    if isinstance(value, int):
        return datetime.fromtimestamp(value / 1000, UTC)
    return datetime.fromisoformat(value).astimezone(UTC)
