"""The thread that sends heartbeats to control and reads from the answers whether to continue.

It must not delay the work: while control does not answer, the work continues, and the next heartbeat reports
everything since the last one that was answered.
"""

from __future__ import annotations

import threading

from runner.contract import Heartbeat, Reason
from runner.control_client import CallRefused, ControlClient
from runner.log import record
from runner.progress import Progress
from runner.retry import RetryableError
from runner.stop import Stop


class HeartbeatThread(threading.Thread):
    """Sends heartbeats at the interval that control asks for, and at once when an output has ended."""

    def __init__(self, client: ControlClient, progress: Progress, stop: Stop, *, next_beat_s: float) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self.seq = 0  # of the last beat that was sent
        self._client, self._progress, self._stop_flag = client, progress, stop
        self._next_beat_s = next_beat_s
        self._over = threading.Event()

    def run(self) -> None:
        """Send heartbeats until `end` is called."""
        while True:
            self._progress.news.wait(self._next_beat_s)
            if self._over.is_set():
                return
            self._progress.news.clear()
            self._beat()

    def end(self) -> None:
        """End the thread. Afterwards `seq` does not change."""
        self._over.set()
        self._progress.news.set()
        self.join()

    def _beat(self) -> None:
        self.seq += 1
        reports = self._progress.unheard()
        beat = Heartbeat(seq=self.seq, outputs=reports, timings=self._progress.timings())
        try:
            answer = self._client.heartbeat(beat)
        except RetryableError as unanswered:
            record("heartbeat_unanswered", detail=str(unanswered))
            return
        except CallRefused as refusal:
            self._stop_flag.because(Reason.CANCELLED, str(refusal))
            return
        self._progress.heard(reports)
        self._next_beat_s = answer.next_beat_s
        if not answer.proceed:
            self._stop_flag.because(Reason.CANCELLED, "control said to stop")
