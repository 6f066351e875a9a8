"""Machines over the Fly Machines API (https://fly.io/docs/machines/api/): the only code that calls Fly.

One call is one request. Only reads are repeated here; the caller's loop repeats everything else.
Respects Fly's rate limits: a create over the limit is refused without a request, a read waits. Must never put
a header, an environment value or a token into an error.

httpx is loaded by the first call, since control answers its first client before that. One file, since it is
one port: each method is one call.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from infra.fly.responses import error_text, machine_of, name_holder, refusal_of
from infra.ports import Machine, MachineSpec, Refusal, Refused, Unanswered
from infra.ratelimit import GET_MACHINE, ORDINARY, Rate, TokenBuckets

if TYPE_CHECKING:
    import httpx

PRESETS: Mapping[str, Mapping[str, Any]] = json.loads(
    Path(__file__).parents[1].joinpath("prices.json").read_text(encoding="utf-8")
)["presets"]
READS_MAX = 4
SECRET_CHARS_MIN = 8  # shorter values may be words of an error message
MESSAGE_CHARS_MAX = 300


class FlyMachines:
    """Implements `infra.ports.Machines`. Safe to use from several threads; `close` ends its connections.

    `api_url` ends in `/v1`. A token is what `fly tokens create` prints, with or without its prefix: `tokens`
    by app, `token` for the apps that are not in it (empty: calls for them are Refused(UNAUTHORIZED)). `pause`
    waits some seconds before a read or between two tries of it. `monotonic_s` is the clock of the limits.
    """

    def __init__(
        self,
        *,
        api_url: str,
        token: str = "",
        tokens: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
        pause: Callable[[float], None] = time.sleep,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api_url, self._timeout_s = api_url, timeout_s
        self._connecting = threading.Lock()  # guards the making of the client
        self._token, self._tokens = token, tokens or {}
        self._reads = Retrying(
            retry=retry_if_exception(_is_transient),
            stop=stop_after_attempt(READS_MAX),
            wait=wait_random_exponential(multiplier=0.2, max=2.0),
            sleep=pause,
            reraise=True,
        )
        self._pause, self._monotonic_s = pause, monotonic_s
        self._limited = threading.Lock()  # guards the buckets
        self._buckets = TokenBuckets()

    def close(self) -> None:
        """End the connections."""
        with self._connecting:
            if "_connected" in vars(self):
                self._connected.close()

    def room(self, app: str) -> int:
        """Return how many creates of the app the limit lets through right now."""
        with self._limited:
            return self._buckets.room(("create", app), ORDINARY, self._monotonic_s())

    def create(self, spec: MachineSpec) -> Machine:
        """Return the machine named `spec.name`, made now or found under that name: see the port.

        Refused(RATE_LIMITED) without a request when there is no `room`. Refused(INVALID) also for a size that
        Fly does not sell.
        """
        body = _create_body(spec)
        if self._take(("create", spec.app), ORDINARY) > 0:
            raise Refused(Refusal.RATE_LIMITED, "over the limit of creates", path=_path(spec.app))
        answer = self._send("POST", _path(spec.app), json=body)
        holder = name_holder(answer.status_code, _body(answer))
        if holder is not None:
            return self._adopt(spec, holder)
        self._check(answer, secrets=spec.env.values())
        return _machine(spec.app, answer)

    def get(self, app: str, machine_id: str) -> Machine | None:
        """Return one machine, or None when Fly no longer knows it."""
        try:
            answer = self._read(_path(app, machine_id), rate=GET_MACHINE)
        except Refused as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise
        return _machine(app, answer)

    def stop(self, app: str, machine_id: str, *, timeout_s: float) -> None:
        """Make Fly send SIGTERM, and SIGKILL after `timeout_s` (at most 300 s).

        A machine that is gone is a success.
        """
        body = {"signal": "SIGTERM", "timeout": f"{timeout_s:g}s"}
        self._end(self._send("POST", _path(app, machine_id, "stop"), json=body))

    def destroy(self, app: str, machine_id: str) -> None:
        """Destroy the machine, running or not. A machine that is gone is a success."""
        self._end(self._send("DELETE", _path(app, machine_id), params={"force": "true"}))

    def list(self, app: str, metadata: Mapping[str, str]) -> list[Machine]:
        """Return the app's machines whose metadata holds `metadata`, destroyed ones included.

        They are filtered here once more. The filter is not in Fly's OpenAPI document (2026-05-07), and a
        caller that destroys the result must never see machines of others.
        """
        wanted = {f"metadata.{key}": value for key, value in metadata.items()}
        answer = self._read(_path(app), rate=ORDINARY, include_deleted="true", **wanted)
        shown = _body(answer)
        if not isinstance(shown, list):
            raise _unreadable(answer)
        machines = [_machine(app, answer, item) for item in shown]
        return [machine for machine in machines if metadata.items() <= machine.metadata.items()]

    # --- inside -----------------------------------------------------------------------------------

    @cached_property
    def _connected(self) -> httpx.Client:
        import httpx

        return httpx.Client(
            base_url=self._api_url,
            timeout=httpx.Timeout(self._timeout_s, connect=min(self._timeout_s, 5.0)),
            trust_env=False,  # the token goes directly to Fly, not through a proxy that the environment names
        )

    @property
    def _client(self) -> httpx.Client:
        with self._connecting:
            return self._connected

    def _adopt(self, spec: MachineSpec, machine_id: str) -> Machine:
        """Return the machine that holds the name. Never raises Refused: the machine exists."""
        try:
            machine = self.get(spec.app, machine_id)
        except Refused as error:
            raise Unanswered(f"the name is held by {machine_id}: {error}") from error
        if machine is None or machine.name != spec.name:
            raise Unanswered(
                f"the name is held by {machine_id}, which Fly does not show", path=_path(spec.app)
            )
        return machine

    def _take(self, key: Hashable, rate: Rate) -> float:
        with self._limited:
            return self._buckets.take(key, rate, self._monotonic_s())

    def _read(self, path: str, *, rate: Rate, **query: str) -> httpx.Response:
        def once() -> httpx.Response:
            while (wait_s := self._take(("read", path), rate)) > 0:
                self._pause(wait_s)
            answer = self._send("GET", path, params=query)
            self._check(answer)
            return answer

        return self._reads(once)

    def _end(self, answer: httpx.Response) -> None:
        if answer.status_code != HTTPStatus.NOT_FOUND:
            self._check(answer)

    def _send(self, method: str, path: str, **content: Any) -> httpx.Response:
        import httpx

        headers = {"Authorization": authorization(self._token_of(_app_of(path)))}
        try:
            return self._client.request(method, path, headers=headers, **content)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            where = {"method": method, "path": path}
            raise Refused(Refusal.UNREACHABLE, f"no connection: {type(error).__name__}", **where) from error
        except httpx.HTTPError as error:
            raise Unanswered(f"no answer: {type(error).__name__}", method=method, path=path) from error

    def _token_of(self, app: str) -> str:
        token = self._tokens.get(app, self._token)
        if not token:
            raise Refused(Refusal.UNAUTHORIZED, f"FLY_API_TOKEN has no token for the app {app}")
        return token

    def _check(self, answer: httpx.Response, *, secrets: Iterable[str] = ()) -> None:
        """Return after a success, else raise the error of the answer.

        Its text has no tokens and no `secrets`.
        """
        if answer.is_success:
            return
        text = error_text(_body(answer)) or answer.reason_phrase
        tokens = (authorization(token).partition(" ")[2] for token in (self._token, *self._tokens.values()))
        for secret in (*tokens, *secrets):
            if len(secret) >= SECRET_CHARS_MIN:
                text = text.replace(secret, "***")
        refusal = refusal_of(answer.status_code, _body(answer))
        if refusal is None:
            raise Unanswered(text[:MESSAGE_CHARS_MAX], **_where(answer))
        raise Refused(refusal, text[:MESSAGE_CHARS_MAX], **_where(answer))


def _is_transient(error: BaseException) -> bool:
    """Return whether a read that failed with this error may succeed soon."""
    transient = (Refusal.RATE_LIMITED, Refusal.UNREACHABLE)
    return isinstance(error, Unanswered) or (isinstance(error, Refused) and error.refusal in transient)


def authorization(token: str) -> str:
    """Return the header for a token as `fly tokens create` prints it, or without its prefix.

    Macaroons have the scheme `FlyV1`, all others `Bearer` (fly-go tokens/tokens.go, 2026-08).
    """
    if token.startswith(("FlyV1 ", "Bearer ")):
        return token
    return f"FlyV1 {token}" if token.startswith(("fm1r_", "fm1a_", "fm2_")) else f"Bearer {token}"


def _create_body(spec: MachineSpec) -> dict[str, Any]:
    """Return the body of a one-shot machine: it destroys itself when its process ends, and never restarts."""
    return {
        "name": spec.name,
        "region": ",".join(spec.regions),
        **({} if spec.is_started else {"skip_launch": True}),
        "config": {
            "image": spec.image,
            **({"init": {"exec": list(spec.command)}} if spec.command else {}),
            "env": dict(spec.env),
            "metadata": dict(spec.metadata),
            "guest": _guest(spec.size),
            "auto_destroy": True,
            "restart": {"policy": "no"},
        },
    }


def _guest(size: str) -> dict[str, Any]:
    preset = PRESETS.get(size)
    if preset is None:
        raise Refused(Refusal.INVALID, f"no machine size {size!r}")
    kind = "performance" if size.startswith("performance-") else "shared"
    return {"cpu_kind": kind, "cpus": preset["cpus"], "memory_mb": preset["min_memory_mb"]}


def _app_of(path: str) -> str:
    """Return the app of a path that `_path` made."""
    return unquote(path.split("/")[2])


def _path(app: str, *rest: str) -> str:
    return "/".join(("/apps", quote(app, safe=""), "machines", *(quote(part, safe="") for part in rest)))


def _body(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None


def _machine(app: str, answer: httpx.Response, shown: Any = None) -> Machine:
    try:
        return machine_of(app, shown or _body(answer))
    except (AttributeError, KeyError, TypeError, ValueError):
        raise _unreadable(answer) from None


def _unreadable(answer: httpx.Response) -> Unanswered:
    return Unanswered("an answer that cannot be read", **_where(answer))


def _where(answer: httpx.Response) -> dict[str, Any]:
    """Return the part of the call that an error may show: the path without its query."""
    return {
        "method": answer.request.method,
        "path": answer.request.url.path,
        "status": answer.status_code,
        "request_id": answer.headers.get("fly-request-id"),
    }
