"""What `refresher doctor` runs on a machine: can FFmpeg be confined there, do control and the bucket answer?

    python3 -m runner.self_test CONTROL_URL BUCKET_URL

The exit code tells (`contract.SelfTest`), since such a machine has no attempt to report by. It holds no
secret and ends by itself within LIMIT_S.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import urllib3

from runner import jail
from runner.contract import SELF_TEST_FAILED, SelfTest
from runner.deadline import end_after
from runner.ffmpeg_program import find_ffmpeg
from runner.log import record

LIMIT_S = 90.0
REACH_WITHIN_S = 20.0  # the network of a new machine may take a moment
ASK_EVERY_S = 1.0


def main(arguments: Sequence[str]) -> int:
    """Run all tests and return the exit code."""
    end_after(LIMIT_S)
    control_url, bucket_url = arguments
    wrong = SelfTest(0)
    try:
        jail.check(find_ffmpeg())
    except (jail.JailUnavailable, RuntimeError) as trouble:
        record("jail_unavailable", detail=str(trouble))
        wrong |= SelfTest.JAIL
    until = time.monotonic() + REACH_WITHIN_S
    if not _answers(f"{control_url}/api/health", "control", until=until, is_any_fine=False):
        wrong |= SelfTest.CONTROL
    if not _answers(bucket_url, "bucket", until=until, is_any_fine=True):
        wrong |= SelfTest.BUCKET
    record("self_test", wrong=int(wrong))
    return SELF_TEST_FAILED + wrong if wrong else 0


def _answers(url: str, who: str, *, until: float, is_any_fine: bool) -> bool:
    """Return whether a server answers before `until`: control with 200, the bucket with any status.

    The request to the bucket is unsigned, so that it may be refused.
    """
    http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(connect=5, read=5))
    while True:
        try:
            status = http.request("GET", url, redirect=False).status
            if is_any_fine or status == 200:
                return True
            trouble = f"it answered {status}"
        except urllib3.exceptions.HTTPError as error:
            trouble = type(error).__name__
        if time.monotonic() >= until:
            record("not_reached", who=who, detail=trouble)
            return False
        time.sleep(ASK_EVERY_S)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
