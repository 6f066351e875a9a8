"""One machine of the model of Fly: its state, its events, and the effect of each request or report on it.

Pure, like `fleet`, which holds the machines and finds the one that a request names. All that takes time or
must happen outside is put on the event queue. Must never check who calls or whether the machine exists.
Source of the transitions: https://fly.io/docs/machines/machine-states/ (2026-08).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from signal import SIGKILL, SIGSEGV
from typing import Any

from infra.flysim.events import HostBack, HostLost, RemoveMachine, SendSignal, StartProcess
from infra.flysim.faults import FailPoint
from infra.flysim.record import Exit, Record, exit_event
from infra.flysim.validation import (
    KILL_TIMEOUT_S_MAX,
    SIGNALS,
    SIGNALS_OF_STOP,
    FlyError,
    duration,
    json_object,
    signum,
)

RESTARTS_MAX = 10  # Fly's default for `on-failure`; here `always` is bounded by it as well
DEATHS = (FailPoint.EXITS, FailPoint.KILLED, FailPoint.OUT_OF_MEMORY)


EXIT_OF = {
    FailPoint.EXITS: Exit(code=1),
    FailPoint.KILLED: Exit(code=128 + SIGSEGV, signal=SIGSEGV),
    FailPoint.OUT_OF_MEMORY: Exit(code=128 + SIGKILL, signal=SIGKILL, oom_killed=True),
}


@dataclass(kw_only=True)
class SimulatedMachine(Record):
    """A machine whose `config` was checked."""

    has_process: bool = False  # it was started, and its end was not reported
    stop_requested: bool = False
    _runs: int = 0  # starts so far: events that were due for an earlier run are ignored
    _doom: Exit | None = None  # how the process really ends; reports from outside may differ
    _unheard: Exit | None = None  # reported while the host was away

    # --- requests ---------------------------------------------------------------------------------

    def launch(self) -> None:
        """Pull the image and start the machine, unless it gets stuck."""
        if self._strikes(FailPoint.STUCK_FOR_EVER):
            return
        faults = self.injector.faults
        stuck_s = self.injector.seconds(faults.stuck_s) if self._strikes(FailPoint.STUCK_FOR_HOURS) else 0
        self.queue.after(stuck_s + self.injector.seconds(faults.pull_s), self._launched)

    def stop(self, body: Any) -> None:
        """Send the process the signal, and SIGKILL after the time-out; without a process it just stops.

        Both come from the body, else from the config, else they are SIGINT and 5 s (https://fly.io/docs,
        2026-08).
        """
        request = json_object(body, go_type="main.stopRequest")
        asked = {"signal": "SIGINT", "timeout": "5s"} | self.config.get("stop_config", {}) | request
        first = signum(asked["signal"], among=SIGNALS_OF_STOP)
        patience = min(duration(asked["timeout"]), timedelta(seconds=KILL_TIMEOUT_S_MAX))
        self._check_host()
        if self.state in ("created", "starting") and not self.has_process:
            self.move("stopped", "stop", source="user")
        elif self.has_process and self.state != "destroying":
            self.stop_requested = True
            self.move("stopping", "stop", source="user", request={"reason": ""})
            self._send(first, self._runs)
            self.queue.after(patience.total_seconds(), self._send, SIGKILL, self._runs)

    def signal(self, body: Any) -> None:
        """Send the process a signal. Without a process: 412, with a text guessed from that of `start`."""
        number = signum(json_object(body, go_type="main.signalRequest").get("signal"), among=SIGNALS)
        self._check_host()
        if not self.has_process or self.state == "destroying":
            raise FlyError(412, f"unable to signal machine from current state: '{self.state}'")
        self._send(number, self._runs)

    def destroy(self, *, force: bool) -> None:
        """Destroy the machine; a running one only with `force`, by SIGKILL.

        If its host does not answer, the request is accepted and carried out when the host is back.
        """
        if self.state == "destroying":
            return
        if self.state in ("starting", "started", "stopping") and not force and self.host_ok:
            raise FlyError(412, "failed_precondition: unable to destroy machine, not currently stopped")
        self.stop_requested = True
        self.move("destroying", "destroy", source="user")
        late_s = 0.0
        if self._strikes(FailPoint.LATE_DESTROY):
            late_s = self.injector.seconds(self.injector.faults.late_destroy_s)
        self.queue.after(late_s, self._finish_destroy)

    # --- facts from outside -----------------------------------------------------------------------

    def started(self) -> None:
        """Record that the process runs, unless a stop or destroy came meanwhile."""
        if self.state == "starting":
            self.move("started", "start", source="flyd", request={})
        death = self.injector.among(DEATHS, now=self.queue.now)
        if death:
            self.queue.after(
                self.injector.seconds(self.injector.faults.death_s), self._die, death, self._runs
            )
        loss = self.injector.among((FailPoint.HOST_CUT_OFF, FailPoint.HOST_DOWN), now=self.queue.now)
        if loss:
            self.queue.after(
                self.injector.seconds(self.injector.faults.host_lost_s), self._lose_host, loss, self._runs
            )

    def exited(self, reported: Exit) -> None:
        """Record that the process ended. Fly does not see it while the host is away.

        The restart policy applies first (Fly destroys by itself only with policy `no`), then `auto_destroy`.
        """
        self.has_process = False
        how, self._doom = self._doom or reported, None
        how = how if how.at else replace(how, at=self.queue.now)
        if not self.host_ok:
            self._unheard = how
            return
        destroying = self.state == "destroying"
        restarting = self._restarts(how.code)
        request: dict[str, Any] = {
            "exit_event": exit_event(how, requested_stop=self.stop_requested, restarting=restarting)
        }
        request |= {"restart_count": self._runs - 1}
        self.move("stopped", "exit", source="flyd", request=request)
        if restarting:
            self._start()
        elif destroying:
            self._destroyed()
        elif self.config.get("auto_destroy"):
            self._destroy_itself()

    # --- inside: start ----------------------------------------------------------------------------

    def _launched(self) -> None:
        if self.state == "created":
            self._start()

    def _start(self) -> None:
        self._runs += 1
        self.move("starting", "start", source="flyd")
        self.queue.after(self.injector.seconds(self.injector.faults.boot_s), self._boot, self._runs)

    def _boot(self, run: int) -> None:
        if self.state != "starting" or run != self._runs:
            return
        if self._strikes(FailPoint.START_FAILED):
            self.move("failed", "start", source="flyd")
        elif self._strikes(FailPoint.LAUNCH_FAILED):
            self.move("launch_failed", "launch", source="flyd")
            self._destroyed()
        else:
            self.has_process = True
            argv = tuple(self.config.get("init", {}).get("exec", ()))
            self.queue.ask_outside(StartProcess(machine_id=self.id, argv=argv, env=self.env()))

    # --- inside: end ------------------------------------------------------------------------------

    def _restarts(self, exit_code: int) -> bool:
        restart = self.config.get("restart", {})
        policy = restart.get("policy", "on-failure")
        wanted = policy == "always" or (policy == "on-failure" and exit_code != 0)
        left = self._runs <= restart.get("max_retries", RESTARTS_MAX)
        return wanted and left and not self.stop_requested

    def _send(self, number: int, run: int) -> None:
        if self.has_process and run == self._runs and self.host_ok:
            self.queue.ask_outside(SendSignal(machine_id=self.id, signum=number))

    def _die(self, death: FailPoint, run: int) -> None:
        if self.has_process and run == self._runs and self._doom is None:
            self.injector.hits[death] += 1
            self._doom = EXIT_OF[death]
            self.queue.ask_outside(SendSignal(machine_id=self.id, signum=SIGKILL))

    def _destroy_itself(self) -> None:
        if self._strikes(FailPoint.STAYS_STOPPED):
            return
        stopped_s = 0.0
        if self._strikes(FailPoint.SHOWN_STOPPED):
            stopped_s = self.injector.seconds(self.injector.faults.stopped_s)
        self.queue.after(stopped_s, self._destroyed)

    def _finish_destroy(self) -> None:
        if self.state != "destroying" or not self.host_ok:
            return
        if self.has_process:
            self._send(SIGKILL, self._runs)
        else:
            self._destroyed()

    def _destroyed(self) -> None:
        if self.state != "destroyed":
            self.move("destroyed", "destroy", source="flyd")
            self.queue.ask_outside(RemoveMachine(machine_id=self.id))

    # --- inside: host -----------------------------------------------------------------------------

    def _check_host(self) -> None:
        """Refuse as Fly does while a host does not answer (408: status page, FRA 2025-05-14)."""
        if not self.host_ok:
            raise FlyError(408, "deadline_exceeded: context deadline exceeded")

    def _lose_host(self, loss: FailPoint, run: int) -> None:
        if not self.has_process or run != self._runs or not self.host_ok:
            return
        self.injector.hits[loss] += 1
        self.host_ok = False
        self.queue.ask_outside(HostLost(machine_id=self.id))
        if loss is FailPoint.HOST_DOWN:
            self._doom = Exit(code=128 + SIGKILL, signal=SIGKILL)
            self.queue.ask_outside(SendSignal(machine_id=self.id, signum=SIGKILL))
        self.queue.after(self.injector.seconds(self.injector.faults.host_away_s), self._host_back)

    def _host_back(self) -> None:
        self.host_ok = True
        self.queue.ask_outside(HostBack(machine_id=self.id))
        if self._unheard:
            how, self._unheard = self._unheard, None
            self.exited(how)
        self._finish_destroy()

    def _strikes(self, fail_point: FailPoint) -> bool:
        return self.injector.fires(fail_point, now=self.queue.now)
