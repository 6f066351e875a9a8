"""No secret leaves its place: each setting has a unique secret, and then everything is searched for it."""

from __future__ import annotations

import base64
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.foreign import Server, served
from tests.support.postgres import running_postgres
from tests.support.processes import until
from tests.support.settings import SETTINGS
from tests.support.stack import Part, Patient, Stack, free_port, machine_processes, running
from tests.support.user import ok, sign_in

SIGNATURE = "X-Amz-Signature"  # what every signed URL has
UPLOAD = {"name": "a.mp4", "size_bytes": 9, "content_type": "video/mp4"}


def canary(name: str) -> str:
    return f"canary-{name}-{secrets.token_hex(16)}"


class Watch:
    """Keeps what can be seen while things run: command lines, environments, the cloud's configs."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._is_over = threading.Event()
        self.commands: set[str] = set()
        self.environments: set[str] = set()
        self.machines: dict[str, Mapping[str, Any]] = {}

    @contextmanager
    def looking(self) -> Iterator[None]:
        thread = threading.Thread(target=self._look)
        thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            thread.join()

    def _look(self) -> None:
        fly = self._stack.fly.facts
        headers = {"Authorization": f"Bearer {fly['token']}"}
        with httpx.Client(headers=headers, timeout=10) as http:
            while not self._is_over.wait(0.15):
                self.commands |= {
                    text for path in Path("/proc").glob("[0-9]*/cmdline") if (text := read(path))
                }
                runners = [Path(f"/proc/{pid}/environ") for pid in machine_processes(self._stack.folder)]
                self.environments |= {text for path in runners if (text := read(path))}
                for machine in http.get(f"{fly['url']}/apps/{fly['app']}/machines").json():
                    self.machines[machine["id"]] = machine


def read(path: Path) -> str:
    """Return what a file holds, or nothing of one that is gone."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


class Listener(Patient):
    """A user who keeps the bodies of all answers."""

    def __init__(self, http: httpx.Client) -> None:
        super().__init__(http)
        self.bodies: list[str] = []
        http.event_hooks = {"response": [self._keep]}

    def _keep(self, answer: httpx.Response) -> None:
        self.bodies.append(answer.read().decode(errors="replace"))


@pytest.fixture
def theirs() -> Iterator[Server]:
    with served() as server:
        yield server


def test_no_secret_is_found_where_it_does_not_belong(tmp_path: Path, tiny: Path, theirs: Server) -> None:
    webhook_key = canary("webhook").encode()
    settings = {
        "AUTH_PASSWORD": canary("password"),
        "TOKEN_SECRET": canary("token-secret"),
        "TOKEN_SECRET_PREVIOUS": canary("previous-token-secret"),
        "WEBHOOK_SECRET": f"whsec_{base64.b64encode(webhook_key).decode()}",
    }
    query = canary("query")
    with running(tmp_path, **settings, OUTBOUND_ALLOW=theirs.place) as stack:
        keys = {name: stack.s3.facts[name] for name in ("access_key_id", "secret_access_key")}
        secret = [
            *settings.values(),
            webhook_key.decode(),
            stack.fly.facts["token"],
            keys["secret_access_key"],
        ]
        watch = Watch(stack)
        with watch.looking(), httpx.Client(base_url=stack.url, timeout=20) as http:
            user = Listener(http)
            work(user, settings["AUTH_PASSWORD"], tiny, theirs, query)
            bearer = http.headers["Authorization"].removeprefix("Bearer ")
            until(lambda: not user.machines())
            wrong = {"FLY_API_TOKEN": canary("fly-token"), "AWS_SECRET_ACCESS_KEY": canary("bucket-secret")}
            restarted(stack, **wrong)
            trouble(user)
        restarted(stack)  # forgets URLs as it starts
        until(lambda: not urls(stack.database))
        assert stack.control.stop() == 0
        tokens = [machine["config"]["env"].pop("ATTEMPT_TOKEN") for machine in watch.machines.values()]
        assert len(tokens) >= 3
        assert len(watch.environments) >= 3
        secret += [query, bearer, *wrong.values()]
        logs = "".join(map(read, tmp_path.rglob("*.log")))
        assert "claimed" in logs
        stored = b"".join(path.read_bytes() for path in tmp_path.glob("control.db*")).decode(errors="replace")
        assert found([*secret, *tokens, *keys.values(), SIGNATURE], logs) == []
        assert found([*secret, *tokens, *keys.values(), SIGNATURE], stored) == []
        assert found([*secret, *tokens, *keys.values()], str(watch.commands)) == []
        assert found([*secret, *keys.values()], str(watch.machines)) == []
        assert found([*secret, *keys.values()], str(watch.environments)) == []
        errors = [body for body in user.bodies if '"error":{"code"' in body]
        assert len(errors) >= 8
        assert found([*secret, *tokens, *keys.values(), SIGNATURE], "".join(errors)) == []
        assert found([word for word in secret if word != bearer], "".join(user.bodies)) == []


def test_the_password_of_a_database_is_found_nowhere(tmp_path: Path) -> None:
    password = canary("database")
    with running_postgres() as server:
        url = server.database().replace("//postgres@", f"//postgres:{password}@")
        control = serve(tmp_path, url)
        try:
            control.start()
            answers = [httpx.get(f"{control.facts['url']}/api/{path}").text for path in ("health", "ready")]
            commands = read(Path(f"/proc/{control.pid}/cmdline"))
        finally:
            control.kill()
    (tmp_path / "away").mkdir()
    without = serve(tmp_path / "away", url)  # its server has ended
    without.begin()
    until(lambda: not without.runs)
    without.kill()
    logs = "".join(map(read, tmp_path.rglob("*.log")))
    assert "DATABASE_URL" in logs
    assert found([password], f"{answers} {commands} {logs}") == []


def serve(folder: Path, database_url: str) -> Part:
    """Return a control whose bucket and Fly do not answer."""
    env = {name.upper(): value for name, value in SETTINGS.items()} | {"DATABASE_URL": database_url}
    return Part(folder, "serve", "--host", "127.0.0.1", "--port", free_port(), env=env)


def work(user: Listener, password: str, clip: Path, theirs: Server, query: str) -> None:
    """Do what users do, well and badly; every URL of theirs has a secret query."""
    refused(user.http.post("/api/auth", json={"password": f"not {password}"}), 401)
    sign_in(user.http, password)
    refused(user.http.get("/api/jobs", headers={"Authorization": f"Bearer {password}"}), 401)
    refused(user.try_upload(b"no video"), 422)
    for url in (f"http://127.0.0.1:1/?{query}", f"ftp://u:{query}@x/", f"http://{query}\\@x/{query}"):
        body = {"sources": [{"url": url}], "variations": 1}
        refused(user.http.post("/api/jobs", json=body), 422)
    theirs.answers = {f"/ad.mp4?{query}": (200, {}, clip.read_bytes()), f"/hook?{query}": (500, {}, b"")}
    there = f"http://{theirs.place}"
    more = {"webhook_url": f"{there}/hook?{query}", "variations": 1}
    job = submit(user, f"{there}/ad.mp4?{query}", output_url=f"{there}/nowhere?{query}", **more)
    assert user.wait(job)["status"] == "completed"
    failed = submit(user, f"{there}/none?{query}", **more)
    assert user.wait(failed)["status"] == "failed"
    batch = user.wait(user.submit(user.upload(clip), variations=2)["batch_id"])
    user.unzip(batch["batch_id"])
    ticket = {"ticket": batch["ticket"]}
    assert user.http.get(f"/api/batches/{batch['batch_id']}/events", params=ticket).status_code == 200
    elsewhere = f"/api/jobs/{job}/events"
    refused(user.http.get(elsewhere, params=ticket, headers={"Authorization": "none"}), 401)
    refused(user.http.post("/runner/attempts/job_1-1/claim", json={"machine_id": query}), 401)
    until(lambda: user.show(failed)["webhook"]["tries"])
    for id_ in (job, failed):
        assert user.http.delete(f"/api/jobs/{id_}").status_code == 204


def trouble(user: Listener) -> None:
    """Be a user of a control that Fly and the bucket refuse."""
    refused(user.http.post("/api/uploads", json=UPLOAD), 503)
    refused(user.http.post("/api/machines/reap"), 503)
    assert user.http.get("/api/ready").status_code == 503


def submit(user: Listener, url: str, **more: Any) -> str:
    body = {"sources": [{"url": url}], **more}
    return str(ok(user.http.post("/api/jobs", json=body), 202)["job_id"])


def refused(answer: httpx.Response, status: int) -> None:
    assert (answer.status_code, "error" in answer.json()) == (status, True), answer.text


def restarted(stack: Stack, **settings: str) -> None:
    """Restart control with other settings for this time."""
    assert stack.control.stop() == 0
    kept, stack.settings = stack.settings, {**stack.settings, **settings}
    stack.start()
    stack.settings = kept


def urls(database: Path) -> int:
    """Return how many URLs of users the database holds."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        counts = [
            connection.execute(f"SELECT count({column}) FROM {table}").fetchone()[0]
            for table, column in (("source", "url"), ("delivery", "url"), ("webhook", "url"))
        ]
    return sum(counts)


def found(words: list[str], text: str) -> list[str]:
    """Return which of the words are in the text, without telling more of them than it takes."""
    return [word[:30] for word in words if word in text]
