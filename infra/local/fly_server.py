"""The local Fly: the model of Fly behind the real HTTP paths, served on the loopback.

Serves `refresher fly-local`, `serve --local`, `demo` and the tests, so the code that calls Fly in production
runs everywhere. Faults are chosen at the start or by `PUT /admin/faults`, with the same token. Under `/v1` it
must never give an answer that Fly would not give: leases, volumes and others are 404 or 405.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from hmac import compare_digest
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from infra.flysim.faults import Faults
from infra.flysim.gate import Cut
from infra.flysim.validation import FlyError, invalid
from infra.local.data_dir import locked_dir, persistent_secret
from infra.local.disconnect import Cuttable, cut
from infra.local.fly_host import LocalFly
from infra.local.serve import listen, serving

WAIT_S_MAX = 60


def create_app(fly: LocalFly, *, token: str) -> ASGIApp:
    """Return the routes that we use of https://fly.io/docs/machines/api/ for holders of `token`."""

    def authorize(response: Response, authorization: Annotated[str, Header()] = "") -> None:
        response.headers["fly-request-id"] = _request_id()
        scheme, _, given = authorization.partition(" ")
        sound = scheme.lower() in ("bearer", "flyv1")
        if not (sound and compare_digest(given.strip().encode(), token.encode())):
            raise FlyError(401, "Authenticate: token validation error")

    app = FastAPI(openapi_url=None, dependencies=[Depends(authorize)])
    app.include_router(_collection_routes(fly), prefix="/v1/apps/{app}/machines")
    app.include_router(_machine_routes(fly), prefix="/v1/apps/{app}/machines/{machine_id}")
    app.include_router(_admin_routes(fly), prefix="/admin")
    app.add_exception_handler(FlyError, _fly_error)
    app.add_exception_handler(Cut, cut)
    app.add_exception_handler(RequestValidationError, _bad_request)
    app.add_exception_handler(HTTPException, _no_route)
    return Cuttable(app)


def _collection_routes(fly: LocalFly) -> APIRouter:
    router = APIRouter()

    @router.post("")
    def create(app: str, body: Annotated[Any, Body()] = None) -> Any:
        return fly.ask(lambda world: world.create(app, _json(body)))

    @router.get("")
    def list_machines(
        request: Request,
        app: str,
        *,
        include_deleted: bool = False,
        region: str = "",
        state: str = "",
        summary: bool = False,
    ) -> Any:
        query = request.query_params.items()
        prefix = "metadata."
        metadata = {key.removeprefix(prefix): value for key, value in query if key.startswith(prefix)}
        return fly.ask(
            lambda world: world.list(
                app,
                metadata=metadata,
                include_deleted=include_deleted,
                states=[name for name in state.split(",") if name],
                region=region,
                summary=summary,
            )
        )

    return router


def _machine_routes(fly: LocalFly) -> APIRouter:
    router = APIRouter()

    @router.get("")
    def get(app: str, machine_id: str) -> Any:
        return fly.ask(lambda world: world.get(app, machine_id))

    @router.delete("")
    def destroy(app: str, machine_id: str, *, force: bool = False, kill: bool = False) -> Any:
        fly.ask(lambda world: world.destroy(app, machine_id, force=force or kill))
        return {"ok": True}

    @router.get("/wait")
    def wait(
        app: str,
        machine_id: str,
        *,
        state: Annotated[list[str] | None, Query()] = None,
        timeout: int = WAIT_S_MAX,
        version: str = "",
        instance_id: str = "",
    ) -> Any:
        if not 1 <= timeout <= WAIT_S_MAX:
            raise invalid("timeout: value must be inside range [1s, 1m0s]")
        states = [name for names in state or ["started"] for name in names.split(",")]
        return fly.wait(app, machine_id, states, version=version or instance_id, timeout_s=timeout)

    @router.post("/stop")
    def stop(app: str, machine_id: str, body: Annotated[Any, Body()] = None) -> Any:
        fly.ask(lambda world: world.stop(app, machine_id, _json(body)))
        return {"ok": True}

    @router.post("/signal")
    def send_signal(app: str, machine_id: str, body: Annotated[Any, Body()] = None) -> Any:
        fly.ask(lambda world: world.signal(app, machine_id, _json(body)))
        return {"ok": True}

    @router.get("/events")
    def events(app: str, machine_id: str, limit: int = 20) -> Any:
        return fly.ask(lambda world: world.events(app, machine_id, limit=limit))

    return router


def _admin_routes(fly: LocalFly) -> APIRouter:
    """Return the routes that Fly does not have: the faults, and how often each happened."""
    router = APIRouter()
    faults_type = TypeAdapter(Faults)

    @router.get("/faults")
    def get_faults() -> Any:
        faults, hits = fly.ask(lambda world: (world.faults, dict(world.hits)))
        return {"faults": faults_type.dump_python(faults, mode="json"), "hits": hits}

    @router.put("/faults")
    def put_faults(body: Annotated[Any, Body()] = None) -> Any:
        try:
            faults = faults_type.validate_python(_json(body))
        except ValidationError as error:
            first = error.errors()[0]
            raise invalid(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        fly.ask(lambda world: world.set_faults(faults))
        return get_faults()

    return router


def _json(body: Any) -> Any:
    """Return the body as JSON, whatever its content type is: Fly ignores that."""
    if not isinstance(body, bytes):
        return body
    try:
        return json.loads(body)
    except ValueError as error:
        raise FlyError(400, f"invalid JSON: {error}") from None


def _request_id() -> str:
    return f"01{secrets.token_hex(12).upper()}-local"


def _answer(status: int, body: dict[str, Any]) -> JSONResponse:
    return JSONResponse(body, status_code=status, headers={"fly-request-id": _request_id()})


def _fly_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, FlyError)
    return _answer(error.status, error.body)


def _bad_request(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    refused = invalid(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
    return _answer(refused.status, refused.body)


def _no_route(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return _answer(error.status_code, {"error": error.detail})


# --- the whole thing ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class LocalFlyHandle:
    """How to reach a running local Fly: what `FLY_API_URL`, `FLY_API_TOKEN` and `RUNNER_APPS` take."""

    url: str  # ends in /v1
    token: str
    app: str


@contextmanager
def local_fly(
    data_dir: Path,
    *,
    app: str = "local-runners",
    token: str | None = None,
    port: int = 0,
    faults: Faults | None = None,
) -> Iterator[LocalFlyHandle]:
    """Serve a local Fly on the loopback until the block ends; then no machine is left.

    Without `token` it makes one up, which a later start on `data_dir` uses again. `data_dir` must belong to
    this local Fly alone. Its machines do not outlive it: after a restart they are dead and unknown. Raises
    OSError when the port is taken.
    """
    secret = token or persistent_secret(data_dir / "token", 24)
    with (
        locked_dir(data_dir),
        listen(port=port) as listener,
        closing(LocalFly(data_dir, app=app, faults=faults)) as fly,
        serving(create_app(fly, token=secret), listener=listener) as url,
    ):
        try:
            yield LocalFlyHandle(url=f"{url}/v1", token=secret, app=app)
        finally:
            fly.close()  # before the server ends, since that waits for every open long poll
