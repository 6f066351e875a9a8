"""Checks and conversions of Fly's Machines API: valid requests, and the format of answers. Pure, stdlib only.

Must never hold state or read a clock.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from signal import Signals
from typing import Any

KILL_TIMEOUT_S_MAX = 300  # https://fly.io/docs/reference/configuration/ (2026-08)
CPUS = {"shared": (1, 2, 4, 6, 8), "performance": (1, 2, 4, 6, 8, 10, 12, 14, 16)}
MEMORY_MB_PER_CPU = {"shared": (256, 2048), "performance": (2048, 8192)}  # fewest, most
REGION_ALIASES = {
    "any": "iad",
    "us": "iad",
    "usa": "iad",
    "na": "iad",
    "eu": "ams",
    "apac": "sin",
    "sa": "gru",
}
SIGNALS_OF_STOP = frozenset(["SIGHUP", "SIGINT", "SIGQUIT", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGTERM"])
SIGNALS = SIGNALS_OF_STOP | {"SIGABRT", "SIGALRM", "SIGFPE", "SIGILL", "SIGPIPE", "SIGSEGV", "SIGTRAP"}
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class FlyError(Exception):
    """An answer of the API other than 200: its HTTP status and its JSON body, in which `status` is `code`."""

    def __init__(self, status: int, error: str, *, code: str = "") -> None:
        super().__init__(error)
        self.status, self.body = status, {"error": error} | ({"status": code} if code else {})


def invalid(why: str) -> FlyError:
    """Return the 400 that refuses a request for its content."""
    return FlyError(400, f"invalid_argument: {why}")


def json_object(value: Any, *, go_type: str) -> dict[str, Any]:
    """Return `value` if it is a JSON object (nothing counts as an empty one), else raise Fly's 400.

    The text is that of superfly/docs issue 2187.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        kind = {list: "array", str: "string", bool: "bool"}.get(type(value), "number")
        raise FlyError(400, f"json: cannot unmarshal {kind} into Go value of type {go_type}")
    return value


def create_request(body: Any) -> dict[str, Any]:
    """Return the body of a create if the fields that the model uses are valid, else raise FlyError 400."""
    request = json_object(body, go_type="main.createMachineRequest")
    _check(isinstance(request.get("name", ""), str), "name must be a string")
    _check(isinstance(request.get("region", ""), str), "region must be a string")
    config = request.get("config")
    _check(isinstance(config, dict), "config is required")
    assert isinstance(config, dict)
    _check(isinstance(config.get("image"), str) and config["image"] != "", "config.image is required")
    for key in ("env", "metadata"):
        _check(_is_str_map(config.get(key, {})), f"config.{key} must map strings to strings")
    # https://fly.io/docs/reference/configuration/ (2026-08)
    reserved = [key for key in config.get("env", {}) if key.startswith("FLY_")]
    _check(not reserved, f"config.env keys may not begin with FLY_: {', '.join(reserved)}")
    _check_process(config)
    _check_guest(config.get("guest", {}))
    return request


def _check(sound: bool, why: str) -> None:
    if not sound:
        raise invalid(why)


def _is_str_map(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def _check_process(config: Mapping[str, Any]) -> None:
    for key in ("init", "restart", "stop_config"):
        _check(isinstance(config.get(key, {}), dict), f"config.{key} must be an object")
    argv = config.get("init", {}).get("exec", [])
    _check(
        isinstance(argv, list) and all(isinstance(arg, str) for arg in argv), "init.exec must hold strings"
    )
    restart = config.get("restart", {})
    policy = restart.get("policy", "no")
    _check(policy in ("no", "always", "on-failure"), f"unknown restart policy {policy!r}")
    _check(isinstance(restart.get("max_retries", 0), int), "restart.max_retries must be an integer")
    stop_config = config.get("stop_config", {})
    signum(stop_config.get("signal", "SIGINT"), among=SIGNALS_OF_STOP)
    duration(stop_config.get("timeout", 0))


def _check_guest(guest: Any) -> None:
    """Refuse a guest that Fly does not sell (fly-go machine_types.go; steps of 256 and 1024 MB)."""
    _check(isinstance(guest, dict), "config.guest must be an object")
    kind, cpus = guest.get("cpu_kind", "shared"), guest.get("cpus", 1)
    _check(isinstance(kind, str) and cpus in CPUS.get(kind, ()), f"no machine has {cpus!r} {kind!r} cpus")
    fewest, most = MEMORY_MB_PER_CPU[kind]
    step = min(fewest, 1024)
    memory_mb = guest.get("memory_mb", fewest * cpus)
    sold = isinstance(memory_mb, int) and fewest * cpus <= memory_mb <= most * cpus and memory_mb % step == 0
    _check(sold, f"memory_mb {memory_mb!r}: must be {fewest * cpus}..{most * cpus} in steps of {step}")


def memory_mb_of(config: Mapping[str, Any]) -> int:
    """Return the memory of a checked config's guest."""
    guest = config.get("guest", {})
    fewest, _ = MEMORY_MB_PER_CPU[guest.get("cpu_kind", "shared")]
    return int(guest.get("memory_mb", fewest * guest.get("cpus", 1)))


def regions_of(wanted: str) -> list[str]:
    """Return the regions named by an ordered list such as `"iad,dfw"` or `"lhr,eu"`, aliases resolved.

    https://fly.io/docs/machines/guides-examples/machine-placement/ (2026-08). Raises FlyError 400.
    """
    regions = [REGION_ALIASES.get(name.strip(), name.strip()) for name in (wanted or "any").split(",")]
    unknown = [name for name in regions if not re.fullmatch("[a-z]{3}", name)]
    _check(not unknown, f"unknown region {', '.join(unknown)!r}")
    return regions


def duration(value: Any) -> timedelta:
    """Return a duration written as Go writes it (`"1m30s"`) or in nanoseconds; raise FlyError 400."""
    if isinstance(value, int) and not isinstance(value, bool):
        return timedelta(microseconds=value / 1000)
    text = value if isinstance(value, str) else ""
    _check(re.fullmatch(r"(\d+(\.\d+)?(ns|us|ms|s|m|h))+", text) is not None, f"bad duration {value!r}")
    parts = re.findall(r"([\d.]+)(ns|us|ms|s|m|h)", text)
    return timedelta(seconds=sum(float(number) * _SECONDS[unit] for number, unit in parts))


def signum(name: Any, *, among: frozenset[str]) -> int:
    """Return the number of a signal that the route accepts; raise FlyError 400."""
    if not isinstance(name, str) or name not in among:
        raise invalid(f"unknown signal {name!r}")
    return int(Signals[name])


def image_ref(image: str) -> dict[str, Any]:
    """Return an image reference in its parts, as the schema `ImageRef` names them."""
    rest, _, digest = image.partition("@")
    head, slash, tail = rest.partition("/")
    registry, path = (head, tail) if slash and "." in head else ("registry-1.docker.io", rest)
    repository, _, tag = path.partition(":")
    return {"registry": registry, "repository": repository, "tag": tag, "digest": digest, "labels": {}}


def rfc3339(at: datetime) -> str:
    """Return an aware UTC instant as Fly writes it."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
