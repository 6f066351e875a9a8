"""The doctor's questions to Fly: tokens, sizes, the image, and one machine that is started and tests itself.

Its machines have the metadata `role=doctor` and no owner, so that control neither counts nor destroys them.
Each is destroyed here; one that an interrupted doctor has left ends by itself, or is taken over by its name.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from control.cli.doctor import findings
from control.cli.doctor.findings import Finding, Status
from control.planning.prices import dearest, machine_usd
from control.settings import Settings
from infra.ports import Machine, Machines, MachineSpec, OutsideError, Refusal, Refused
from runner.contract import SelfTest

BOOT_SIZE = "shared-cpu-1x"
SELF_TEST_S = 100.0  # the machine ends itself before
RATE_TRIES, RATE_PAUSE_S = 15, 1.0  # what is over the limit has not been done
POLL_S = 0.5
ROLE = {"role": "doctor"}

Pause = Callable[[float], None]
T = TypeVar("T")


def cost(settings: Settings) -> str:
    """Return a sentence that says what `check` will cost."""
    seconds = settings.boot_timeout_s + SELF_TEST_S
    most_usd = machine_usd(size=BOOT_SIZE, region=dearest(settings.runner_regions), seconds=seconds)
    sizes = ", ".join(settings.runner_sizes)
    return (
        f"This starts one {BOOT_SIZE} machine in {settings.runner_apps[0]}, for seconds (at most "
        f"${most_usd:.4f}), and makes one of each size ({sizes}) that is not started. All are destroyed."
    )


def check(machines: Machines, settings: Settings, *, pause: Pause = time.sleep) -> Iterator[Finding]:
    """Yield what Fly allows: each app's token, each size, the image, and what one machine finds."""
    reached = []
    for app in settings.runner_apps:
        finding = _token(machines, app, pause)
        reached += [app] if finding.status is Status.OK else []
        yield finding
    if reached:
        yield from _machines(machines, settings, reached[0], pause)


def _machines(machines: Machines, settings: Settings, app: str, pause: Pause) -> Iterator[Finding]:
    is_image_found = False
    for size in settings.runner_sizes:
        refused = _make_unstarted(machines, _spec(settings, app, size), pause)
        if isinstance(refused, Refused) and refused.refusal is Refusal.IMAGE_NOT_FOUND:
            yield findings.fail("image", str(refused), findings.remedy_for(refused))
            return
        if refused:
            yield findings.size_refused(size, refused)
        else:
            is_image_found = True
            yield findings.ok(f"size {size}", "Fly makes a machine of it.")
    if is_image_found:
        yield findings.ok("image", f"Fly finds {settings.runner_image}.")
    yield from _boot(machines, settings, app, pause)


def _token(machines: Machines, app: str, pause: Pause) -> Finding:
    try:
        held = _within_rate(lambda: machines.list(app, {}), pause)
    except OutsideError as error:
        return findings.fail(f"token of {app}", str(error), findings.remedy_for(error))
    alive = sum(not machine.is_gone for machine in held)
    return findings.ok(f"token of {app}", f"It reaches the app, which holds {alive} machines.")


def _make_unstarted(machines: Machines, spec: MachineSpec, pause: Pause) -> OutsideError | None:
    """Make and destroy a machine that is never started; return the error of Fly, if it makes none."""
    try:
        machine = _created(machines, replace(spec, is_started=False), pause)
    except OutsideError as error:
        return error
    _destroy(machines, machine, pause)
    return None


def _boot(machines: Machines, settings: Settings, app: str, pause: Pause) -> Iterator[Finding]:
    """Start one machine, wait for its end, and yield how it booted and what it found."""
    places = {SelfTest.CONTROL: settings.runner_callback_url, SelfTest.BUCKET: settings.aws_endpoint_url_s3}
    command = ("python3", "-m", "runner.self_test", *places.values())
    name = f"doctor-boot-{secrets.token_hex(4)}"  # a machine of an earlier doctor must not be taken for it
    spec = replace(_spec(settings, app, BOOT_SIZE), name=name, command=command)
    began = time.monotonic()
    try:
        machine = _created(machines, spec, pause)
    except OutsideError as error:
        yield findings.fail("machine boot", str(error), findings.remedy_for(error))
        return
    try:
        ended = _ended(machines, machine, until=began + settings.boot_timeout_s + SELF_TEST_S, pause=pause)
    finally:
        _destroy(machines, machine, pause)
    yield findings.boot(ended, time.monotonic() - began, allowed_s=settings.boot_timeout_s)
    if ended is not None and ended.started_at is not None:
        yield from findings.self_test(ended, places=places)


def _spec(settings: Settings, app: str, size: str) -> MachineSpec:
    return MachineSpec(
        app=app,
        name=f"doctor-{size}",
        image=settings.runner_image,
        regions=settings.runner_regions,
        size=size,
        env={},
        metadata=ROLE,
    )


def _created(machines: Machines, spec: MachineSpec, pause: Pause) -> Machine:
    """Make a machine. Raises OutsideError."""
    return _within_rate(lambda: machines.create(spec), pause)


def _within_rate(ask: Callable[[], T], pause: Pause) -> T:
    """Ask Fly, and again while that is over its rate: a control at work asks about the same app."""
    for _ in range(RATE_TRIES):
        try:
            return ask()
        except Refused as refused:
            if refused.refusal is not Refusal.RATE_LIMITED:
                raise
        pause(RATE_PAUSE_S)
    return ask()


def _ended(machines: Machines, machine: Machine, *, until: float, pause: Pause) -> Machine | None:
    """Return the machine once its process has ended, or as it is at `until`; None if Fly shows it no more."""
    seen: Machine | None = machine
    while seen is not None and seen.exit is None and not seen.is_gone and time.monotonic() < until:
        pause(POLL_S)
        with suppress(OutsideError):  # asked again until the time is over
            seen = machines.get(machine.app, machine.id)
    return seen


def _destroy(machines: Machines, machine: Machine, pause: Pause) -> None:
    """Destroy a machine; an unanswered call is repeated, since nothing else destroys the machine."""
    for _ in range(RATE_TRIES):
        try:
            machines.destroy(machine.app, machine.id)
        except OutsideError:
            pause(RATE_PAUSE_S)
        else:
            return
