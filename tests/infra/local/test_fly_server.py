"""The local Fly: real HTTP, real child processes, and answers that fit Fly's OpenAPI document."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.flysim.faults import Faults
from infra.local import orphan_processes
from infra.local.fly_server import LocalFlyHandle, local_fly
from tests.support.fly_spec import check_answer

pytestmark = pytest.mark.peer

UNLIMITED = Faults(rate_limits=False)
TOKEN = "secret-token"
SLEEP = ["/bin/sleep", "600"]
# Says when its handler is in place, so that a test does not signal too early.
DEAF = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(600)",
]


class Client:
    """Speaks to the local Fly and holds every answer against the document."""

    def __init__(self, handle: LocalFlyHandle, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.machines = f"{handle.url}/apps/{handle.app}/machines"
        self.http = httpx.Client(headers={"Authorization": f"Bearer {handle.token}"}, timeout=20)

    def call(self, method: str, path: str = "", **content: Any) -> httpx.Response:
        answer = self.http.request(method, f"{self.machines}{path}", **content)
        check_answer(answer)
        assert answer.headers["fly-request-id"]
        return answer

    def create(self, argv: list[str], *, name: str = "job-1", **config: Any) -> str:
        body = {
            "name": name,
            "config": {"image": "i", "restart": {"policy": "no"}, "init": {"exec": argv}, **config},
        }
        return str(self.call("POST", json=body).raise_for_status().json()["id"])

    def wait(self, machine_id: str, state: str) -> dict[str, Any]:
        version = self.get(machine_id)["instance_id"]
        query = {"state": state, "timeout": 15, "instance_id": version}
        return dict(self.call("GET", f"/{machine_id}/wait", params=query).raise_for_status().json())

    def get(self, machine_id: str) -> dict[str, Any]:
        return dict(self.call("GET", f"/{machine_id}").raise_for_status().json())

    def exit_event(self, machine_id: str) -> dict[str, Any]:
        events = self.call("GET", f"/{machine_id}/events").json()
        return dict(next(event for event in events if event["type"] == "exit")["request"]["exit_event"])

    def log(self, machine_id: str) -> str:
        return (self.data_dir / "logs" / f"{machine_id}.log").read_text()

    def log_says(self, machine_id: str, text: str) -> str:
        """Return the log once it holds `text`."""
        deadline = time.monotonic() + 10
        while text not in self.log(machine_id):
            assert time.monotonic() < deadline, self.log(machine_id)
            time.sleep(0.01)
        return self.log(machine_id)


@pytest.fixture(scope="module")
def fly(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    data_dir = tmp_path_factory.mktemp("fly")
    with local_fly(data_dir, token=TOKEN, faults=UNLIMITED) as handle:
        client = Client(handle, data_dir)
        with client.http:
            yield client


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


def is_alive(pid: int) -> bool:
    """Return whether the process runs; one that nobody reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# --- a machine is a child process -----------------------------------------------------------------


def test_a_machine_sees_exactly_its_own_environment(
    fly: Client, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "must not leak")
    machine_id = fly.create(["/usr/bin/env", "-0"], name=name, env={"A": "http://a", "B": "two\nlines"})
    fly.wait(machine_id, "stopped")
    machine = fly.get(machine_id)
    seen = dict(item.split("=", 1) for item in fly.log(machine_id).split("\0") if item)
    assert seen == {
        "A": "http://a",
        "B": "two\nlines",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "TMPDIR": str(fly.data_dir / "machines" / machine_id / "tmp"),
        "FLY_APP_NAME": "local-runners",
        "FLY_MACHINE_ID": machine_id,
        "FLY_ALLOC_ID": machine_id,
        "FLY_MACHINE_VERSION": machine["instance_id"],
        "FLY_REGION": "iad",
        "FLY_IMAGE_REF": "i",
        "FLY_PRIVATE_IP": machine["private_ip"],
        "FLY_VM_MEMORY_MB": "256",
    }


def test_a_machine_without_a_command_runs_the_runner(fly: Client, name: str) -> None:
    answer = fly.call("POST", json={"name": name, "config": {"image": "i", "restart": {"policy": "no"}}})
    machine_id = answer.json()["id"]
    fly.wait(machine_id, "stopped")
    assert "runner" in fly.log(machine_id) or fly.exit_event(machine_id)["exit_code"] == 2


def test_the_exit_code_is_in_the_exit_event(fly: Client, name: str) -> None:
    machine_id = fly.create(["/bin/sh", "-c", "exit 3"], name=name)
    fly.wait(machine_id, "stopped")
    event = fly.exit_event(machine_id)
    assert (event["exit_code"], event["signal"], event["requested_stop"]) == (3, -1, False)


def test_a_killed_process_shows_137_and_its_signal(fly: Client, name: str) -> None:
    machine_id = fly.create(["/bin/sh", "-c", "kill -9 $$"], name=name)
    fly.wait(machine_id, "stopped")
    event = fly.exit_event(machine_id)
    assert (event["exit_code"], event["guest_signal"], event["oom_killed"]) == (137, 9, False)


def test_a_command_that_cannot_start_is_an_exit_like_a_shells(fly: Client, name: str) -> None:
    machine_id = fly.create(["/no/such/program"], name=name)
    fly.wait(machine_id, "stopped")
    assert fly.exit_event(machine_id)["exit_code"] == 127
    assert "/no/such/program" in fly.log(machine_id)


def test_auto_destroy_removes_the_folder_and_the_machine_stays_readable(fly: Client, name: str) -> None:
    machine_id = fly.create(
        ["/bin/sh", "-c", "echo > f; echo > $TMPDIR/f; exit 1"], name=name, auto_destroy=True
    )
    assert fly.wait(machine_id, "destroyed")["state"] == "destroyed"
    assert fly.get(machine_id)["state"] == "destroyed"
    assert fly.exit_event(machine_id)["exit_code"] == 1
    assert not (fly.data_dir / "machines" / machine_id).exists()


CHILD_IN_ITS_OWN_SESSION = """
import os, subprocess
child = subprocess.Popen(["/bin/sleep", "600"], env={}, start_new_session=True)
print(child.pid, flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize(
    "argv", [["/bin/sh", "-c", "sleep 600 & echo $!"], [sys.executable, "-c", CHILD_IN_ITS_OWN_SESSION]]
)
def test_a_machine_ends_with_all_its_processes(fly: Client, name: str, argv: list[str]) -> None:
    machine_id = fly.create(argv, name=name)
    fly.wait(machine_id, "stopped")
    child = int(fly.log(machine_id))
    deadline = time.monotonic() + 5
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_alive(child)


def test_the_default_restart_policy_starts_a_failed_process_again(fly: Client, name: str) -> None:
    argv = ["/bin/sh", "-c", "echo once more; exit 1"]
    machine_id = fly.create(argv, name=name, restart={"policy": "on-failure", "max_retries": 2})
    fly.wait(machine_id, "stopped")
    assert fly.log(machine_id).count("once more") == 3


def test_an_exit_that_was_not_seen_at_once_has_its_own_time(fly: Client, name: str) -> None:
    machine_id = fly.create(["/bin/sh", "-c", "sleep 0.5; date +%s%3N"], name=name, restart={"policy": "no"})
    time.sleep(0.8)
    fly.wait(machine_id, "stopped")
    (exited,) = [
        event for event in fly.call("GET", f"/{machine_id}/events").json() if event["type"] == "exit"
    ]
    assert exited["timestamp"] >= int(fly.log(machine_id))


# --- stop, signal, destroy ------------------------------------------------------------------------


def test_a_stop_sends_sigterm(fly: Client, name: str) -> None:
    machine_id = fly.create(SLEEP, name=name)
    fly.call("POST", f"/{machine_id}/stop", json={"signal": "SIGTERM", "timeout": "60s"}).raise_for_status()
    fly.wait(machine_id, "stopped")
    event = fly.exit_event(machine_id)
    assert (event["exit_code"], event["signal"], event["requested_stop"]) == (143, 15, True)


def test_a_stop_kills_who_does_not_listen(fly: Client, name: str) -> None:
    machine_id = fly.create(DEAF, name=name, auto_destroy=True)
    fly.log_says(machine_id, "1")
    fly.call("POST", f"/{machine_id}/stop", json={"signal": "SIGTERM", "timeout": "300ms"}).raise_for_status()
    assert fly.get(machine_id)["state"] == "stopping"
    fly.wait(machine_id, "destroyed")
    event = fly.exit_event(machine_id)
    assert (event["exit_code"], event["signal"], event["requested_stop"]) == (137, 9, True)


def test_a_signal_reaches_the_process(fly: Client, name: str) -> None:
    machine_id = fly.create(SLEEP, name=name)
    fly.call("POST", f"/{machine_id}/signal", json={"signal": "SIGUSR1"}).raise_for_status()
    fly.wait(machine_id, "stopped")
    assert fly.exit_event(machine_id)["signal"] == 10


@pytest.mark.parametrize("how", ["force", "kill"])
def test_a_running_machine_is_destroyed_by_force(fly: Client, name: str, how: str) -> None:
    machine_id = fly.create(SLEEP, name=name)
    assert fly.call("DELETE", f"/{machine_id}").status_code == 412
    assert fly.call("DELETE", f"/{machine_id}", params={how: "true"}).json() == {"ok": True}
    fly.wait(machine_id, "destroyed")
    assert fly.call("DELETE", f"/{machine_id}", params={how: "true"}).status_code == 404


# --- the API --------------------------------------------------------------------------------------


def test_a_name_conflict_names_the_machine_that_holds_it(fly: Client, name: str) -> None:
    machine_id = fly.create(SLEEP, name=name)
    answer = fly.call("POST", json={"name": name, "config": {"image": "i"}})
    held = f'machine ID {machine_id} already exists with name "{name}"'
    assert answer.status_code == 409
    assert answer.json() == {"error": f"already_exists: unique machine name violation, {held}"}


def test_a_list_filters_by_metadata_and_hides_the_destroyed(fly: Client, name: str) -> None:
    gone = fly.create(["/bin/true"], name=name, metadata={"batch": name}, auto_destroy=True)
    fly.wait(gone, "destroyed")
    here = fly.create(SLEEP, name=name, metadata={"batch": name})

    def ids(**query: str) -> list[str]:
        return [m["id"] for m in fly.call("GET", params={"metadata.batch": name, **query}).json()]

    assert ids() == [here]
    assert ids(include_deleted="true") == [gone, here]
    assert ids(state="stopped,suspended") == []
    assert ids(region="dfw") == []
    assert ids(region="iad", state="started", summary="true") == [here]


def test_a_wait_that_times_out_is_408_with_flys_text(fly: Client, name: str) -> None:
    machine_id = fly.create(SLEEP, name=name)
    answer = fly.call("GET", f"/{machine_id}/wait", params={"state": "destroyed", "timeout": 1})
    text = "machine failed to reach desired state, destroyed, currently started"
    assert (answer.status_code, answer.json()) == (408, {"error": text})


def test_a_wait_takes_several_states_repeated_or_with_commas(fly: Client, name: str) -> None:
    machine_id = fly.create(SLEEP, name=name)
    for query in ([("state", "failed"), ("state", "started")], [("state", "failed,started")], []):
        assert fly.call("GET", f"/{machine_id}/wait", params=query).json()["ok"] is True


@pytest.mark.parametrize(
    "query", [{"timeout": 0}, {"timeout": 61}, {"timeout": "x"}, {"state": "stopped"}, {"state": "dancing"}]
)
def test_a_bad_wait_is_400(fly: Client, name: str, query: dict[str, Any]) -> None:
    machine_id = fly.create(SLEEP, name=name)
    assert fly.call("GET", f"/{machine_id}/wait", params=query).status_code == 400


@pytest.mark.parametrize("content", [b"{bad", b"[]", b'"x"', b"", b"\xff"])
@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
def test_a_body_that_is_no_json_object_is_400(fly: Client, content: bytes, content_type: str) -> None:
    answer = fly.call("POST", content=content, headers={"Content-Type": content_type})
    assert answer.status_code == 400


def test_a_body_is_read_as_json_with_any_content_type(fly: Client, name: str) -> None:
    content = f'{{"name": "{name}", "config": {{"image": "i", "init": {{"exec": ["/bin/true"]}}}}}}'
    assert fly.call("POST", content=content, headers={"Content-Type": "text/plain"}).status_code == 200


def test_variables_of_fly_cannot_be_set(fly: Client) -> None:
    answer = fly.call("POST", json={"config": {"image": "i", "env": {"FLY_MACHINE_ID": "forged"}}})
    assert answer.status_code == 400


@pytest.mark.parametrize("header", [None, "", TOKEN, f"Basic {TOKEN}", "Bearer wrong", "Bearer"])
def test_without_the_token_nothing_is_shown(fly: Client, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    answer = httpx.get(f"{fly.machines}/any", headers=headers)
    check_answer(answer)
    assert (answer.status_code, answer.json()) == (401, {"error": "Authenticate: token validation error"})


def test_both_of_flys_schemes_are_accepted(fly: Client) -> None:
    for scheme in ("Bearer", "FlyV1"):
        fly.call("GET", headers={"Authorization": f"{scheme} {TOKEN}"}).raise_for_status()


def test_an_unknown_app_and_routes_that_we_do_not_have_are_404(fly: Client) -> None:
    elsewhere = fly.machines.replace("local-runners", "other")
    for path in (elsewhere, f"{fly.machines}/x/lease", f"{fly.machines}/x"):
        answer = fly.http.get(path)
        assert (answer.status_code, set(answer.json())) == (404, {"error"})


# --- the end --------------------------------------------------------------------------------------


def test_a_restart_on_the_same_folder_keeps_the_token_to_itself(tmp_path: Path) -> None:
    with local_fly(tmp_path) as first:
        pass
    with local_fly(tmp_path) as second:
        assert second.token == first.token
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600


def test_closing_leaves_no_process_no_folder_no_thread_and_no_waiter(tmp_path: Path) -> None:
    answers: list[httpx.Response] = []
    threads = set(threading.enumerate())
    with local_fly(tmp_path) as handle:
        client = Client(handle, tmp_path)
        with client.http:
            client.wait(client.create(["/bin/true"], name="stopped"), "stopped")
            argv = ["/bin/sh", "-c", "trap '' TERM; sleep 600 & echo $$ $!; wait"]
            machine_id = client.create(argv, name="running", restart={"policy": "always"})
            pids = [int(pid) for pid in client.log_says(machine_id, "\n").split()]
            client.call("POST", f"/{machine_id}/stop", json={"signal": "SIGTERM", "timeout": "300s"})
        url, headers = f"{client.machines}/{machine_id}/wait", dict(client.http.headers)
        waiter = threading.Thread(target=lambda: answers.append(httpx.get(url, headers=headers, timeout=30)))
        waiter.start()
        time.sleep(0.3)  # the long poll is under way
        assert all(is_alive(pid) for pid in pids)
        began = time.monotonic()
    assert time.monotonic() - began < 10
    waiter.join()
    assert [answer.status_code for answer in answers] == [408]
    deadline = time.monotonic() + 5
    while any(is_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(is_alive(pid) for pid in pids)
    assert {path.name for path in tmp_path.iterdir()} == {"lock", "logs", "token"}
    assert not [
        thread for thread in set(threading.enumerate()) - threads if thread.name in ("machine", "fly-timer")
    ]


def test_what_a_killed_local_fly_left_behind_is_removed_at_the_next_start(tmp_path: Path) -> None:
    left = tmp_path / "machines" / "old" / "tmp"
    left.mkdir(parents=True)
    with local_fly(tmp_path):
        assert not left.exists()


def test_two_local_flies_share_no_machine_id(tmp_path: Path) -> None:
    ids = []
    for part in ("a", "b"):
        with local_fly(tmp_path / part) as handle:
            client = Client(handle, tmp_path / part)
            with client.http:
                ids.append(client.create(["/bin/true"]))
    assert ids[0] != ids[1]


# --- a local Fly that was killed --------------------------------------------------------------------

LIFE = """
import os, signal, sys
from pathlib import Path
from infra.local.fly_host import LocalFly

fly = LocalFly(Path(sys.argv[1]), app="a")
config = {"image": "i", "init": {"exec": ["/bin/sh", "-c", "/bin/sleep 600 & /bin/sleep 600"]}}
fly.ask(lambda world: world.create("a", {"config": config}))
print(*[process.pid for process in fly._processes.values()], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_machines_that_a_killed_local_fly_left_die_when_it_starts_again(tmp_path: Path) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", LIFE, tmp_path], capture_output=True, text=True, check=False
    )
    assert killed.returncode == -9, killed.stderr
    pid = int(killed.stdout)
    assert is_alive(pid), "it outlives the local Fly that started it"
    with local_fly(tmp_path, token=TOKEN):
        deadline = time.monotonic() + 10
        while is_alive(pid):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_process_that_got_the_id_of_a_dead_machine_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen(["/bin/sleep", "600"], start_new_session=True) as other:
        orphan_processes.note(tmp_path / "processes", "m1", other.pid)
        path = tmp_path / "processes" / "m1"
        path.write_text(path.read_text() + "9")  # of another birth
        (tmp_path / "processes" / "m2").write_text("")  # killed while it wrote
        with local_fly(tmp_path, token=TOKEN):
            assert other.poll() is None
            assert not list((tmp_path / "processes").iterdir())
        other.kill()


def test_two_local_flies_never_share_a_folder(tmp_path: Path) -> None:
    with local_fly(tmp_path, token=TOKEN), pytest.raises(OSError, match="in use by another"):
        local_fly(tmp_path, token=TOKEN).__enter__()


def test_a_local_fly_keeps_the_token_that_it_made_up(tmp_path: Path) -> None:
    with local_fly(tmp_path) as first:
        pass
    with local_fly(tmp_path) as second:
        assert second.token == first.token
