"""Every fault on every call between runner, control, Fly and bucket: the job ends as without the fault.

By default the faults of all calls strike a few jobs at once, each fault once for each call. CHAOS_FULL=1 adds
each fault on each call alone, and each fault of the door in front of the local bucket.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from infra.local.s3_door import Door, DoorFault, DoorFaults, local_door
from infra.local.s3_server import LocalS3
from infra.s3 import connect
from tests.support.foreign import Held, Server
from tests.support.processes import until
from tests.support.proxy import Fault, Proxy
from tests.support.stack import Patient, Stack, assert_idle, running, signed_in
from tests.support.switches import CHAOS_FULL
from tests.support.user import outputs

CALLS = {
    "claim": ("control", r"^POST /runner/.*/claim"),
    "heartbeat": ("control", r"^POST /runner/.*/heartbeat"),
    "finish": ("control", r"^POST /runner/.*/finish"),
    "source": ("bucket", r"^GET /.*/sources/.*Signature="),
    "output": ("bucket", r"^PUT /.*/outputs/"),
    "head": ("bucket", r"^HEAD /.*/outputs/"),
    "create": ("fly", r"^POST .*/machines$"),
    "list": ("fly", r"^GET .*/machines\?"),
    "get": ("fly", r"^GET .*/machines/[0-9a-f]+$"),
    "destroy": ("fly", r"^DELETE .*/machines/[0-9a-f]+"),
}


class Net:
    """A stack whose every call between its parts goes through a proxy."""

    def __init__(self, stack: Stack, user: Patient, proxies: dict[str, Proxy]) -> None:
        self.stack, self.user, self.proxies = stack, user, proxies
        fly = stack.fly.facts
        self._machines = f"{fly['url']}/apps/{fly['app']}/machines"
        self._faults = fly["url"].removesuffix("/v1") + "/admin/faults"
        self._fly = httpx.Client(headers={"Authorization": f"Bearer {fly['token']}"}, timeout=20)

    def spoil(self, call: str, faults: list[Fault]) -> None:
        where, pattern = CALLS[call]
        self.proxies[where].spoil(call, pattern, faults)

    def left(self) -> dict[str, list[Fault]]:
        """Return the faults that have not struck yet, by call."""
        return {call: faults for proxy in self.proxies.values() for call, faults in proxy.left().items()}

    def make_orphan(self, owner: str) -> None:
        """Make a machine of ours that no attempt knows, so that control has something to destroy."""
        config = {"image": "i", "metadata": {"owner": owner}, "init": {"exec": ["/bin/sleep", "600"]}}
        self._fly.post(self._machines, json={"config": config}).raise_for_status()

    def owner(self) -> str:
        """Return the mark of this control's machines, as one of them carries it."""
        shown = until(lambda: self._fly.get(self._machines, params={"include_deleted": "true"}).json())
        return str(shown[0]["config"]["metadata"]["owner"])

    def ask_for_each_machine_until_struck(self, job_id: str) -> None:
        """Start control anew while lists are empty, so that it asks for the job's machine by itself."""
        until(lambda: any(attempt["machine_id"] for attempt in self.user.show(job_id)["attempts"]))
        self.set_faults(empty_list=1.0)
        self.stack.control.kill()
        self.stack.start()
        until(lambda: "get" not in self.left())
        self.set_faults()

    def set_faults(self, **rates: float) -> None:
        body = {"rate_limits": False, "rates": rates}
        self._fly.put(self._faults, json=body).raise_for_status()

    @contextmanager
    def behind_a_door(self) -> Iterator[Door]:
        """Have everyone reach the bucket through a door, which is yielded, until the block ends."""
        s3 = LocalS3(**self.stack.s3.facts)
        with local_door(s3) as running, self.proxies["bucket"].through(port_of(running.s3.endpoint)):
            yield running.door

    def set_rules_anew(self) -> None:
        """Start control anew on a bucket without rules, which it sets then."""
        facts = self.stack.s3.facts
        keys = {name: facts[name] for name in ("endpoint", "region", "access_key_id", "secret_access_key")}
        connect(**keys).delete_bucket_cors(Bucket=facts["bucket"])
        self.stack.control.kill()
        self.stack.start()

    def writes(self) -> Counter[str]:
        """Return how often the bucket took each output."""
        passed = self.proxies["bucket"].passed
        puts = [one for one in passed if one.method == "PUT" and "/outputs/" in one.path]
        return Counter(urlsplit(one.path).path for one in puts if one.status == 200)

    def close(self) -> None:
        self._fly.close()


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory, theirs: Server) -> Iterator[Net]:
    settings = {"MAX_MACHINES": "50", "OUTBOUND_ALLOW": theirs.place}
    with running(tmp_path_factory.mktemp("net"), **settings) as stack:
        stack.control.kill()  # and again behind its proxies
        urls = {"control": stack.url, "fly": stack.fly.facts["url"], "bucket": stack.s3.facts["endpoint"]}
        proxies = {name: Proxy(port_of(url)) for name, url in urls.items()}
        stack.settings["CALLBACK_URL"] = proxies["control"].url
        stack.settings["FLY_API_URL"] = proxies["fly"].url + "/v1"
        stack.settings["AWS_ENDPOINT_URL_S3"] = proxies["bucket"].url
        stack.start()
        with signed_in(stack) as user, closing(Net(stack, user, proxies)) as wired:
            yield wired
        for proxy in proxies.values():
            proxy.close()


@pytest.fixture(scope="module")
def source(net: Net, tiny: Path) -> str:
    return net.user.upload(tiny)


def test_a_batch_survives_every_fault_on_every_call(net: Net, source: str, held: Held) -> None:
    warm = net.user.submit(source, variations=1, kind="jobs")["job_id"]
    net.user.wait(warm)
    owner = net.owner()
    for call in CALLS:
        net.spoil(call, list(Fault))
    ids = [net.user.submit(source, variations=2, kind="jobs")["job_id"] for _ in range(6)]
    for _ in Fault:
        net.make_orphan(owner)
    until(lambda: "create" not in net.left())
    ids.append(net.user.submit(source, held.url, variations=2, kind="jobs")["job_id"])
    net.ask_for_each_machine_until_struck(ids[-1])
    until(lambda: "heartbeat" not in net.left())
    held.let_go()
    for job_id in ids:
        all_ready(net, job_id)
    until(lambda: not net.left())
    assert_idle(net.stack, net.user)
    assert set(net.writes().values()) == {1}, "no output is written twice"


@pytest.mark.skipif(not CHAOS_FULL, reason="a part of the soak: CHAOS_FULL=1")
@pytest.mark.parametrize(("call", "fault"), list(product(CALLS, Fault)), ids=str)
def test_a_job_survives_a_fault_on_a_call(net: Net, source: str, held: Held, call: str, fault: Fault) -> None:
    net.spoil(call, [fault])
    job_id = net.user.submit(source, held.url, variations=1, kind="jobs")["job_id"]
    if call == "destroy":
        net.make_orphan(net.owner())
    if call == "get":
        net.ask_for_each_machine_until_struck(job_id)
    held.let_go()
    all_ready(net, job_id)
    until(lambda: not net.left())
    assert_idle(net.stack, net.user)
    assert set(net.writes().values()) == {1}


# Busy for some requests; the other faults strike each request that can meet them.
DOOR_RATES = dict.fromkeys(DoorFault, 1.0) | {DoorFault.SLOW_DOWN: 0.2, DoorFault.REQUEST_TIMEOUT: 0.2}


@pytest.mark.skipif(not CHAOS_FULL, reason="a part of the soak: CHAOS_FULL=1")
@pytest.mark.parametrize("fault", list(DoorFault), ids=str)
def test_a_job_survives_a_fault_of_the_door(net: Net, source: str, fault: DoorFault) -> None:
    with net.behind_a_door() as door:
        door.set(DoorFaults(rates={fault: DOOR_RATES[fault]}))
        if fault is DoorFault.LIFECYCLE_REFUSED:
            net.set_rules_anew()
        job_id = net.user.submit(source, variations=2, kind="jobs")["job_id"]
        until(lambda: door.hits[fault] > 0)
        if fault is DoorFault.PATH_STYLE_REFUSED:  # lasts until an operator mends it
            door.set(DoorFaults())
        all_ready(net, job_id)
    assert_idle(net.stack, net.user)
    assert set(net.writes().values()) == {1}


def test_a_part_that_refuses_connections_for_a_while_is_waited_for(net: Net, source: str) -> None:
    with ExitStack() as refusing:
        for proxy in net.proxies.values():
            refusing.enter_context(proxy.refusing())
        job_id = net.user.submit(source, variations=1, kind="jobs")["job_id"]
        until(lambda: net.user.show(job_id)["waiting"])
    all_ready(net, job_id)
    assert_idle(net.stack, net.user)


# The limit comes last: for minutes after it control starts no more machines than the organisation had.
@pytest.mark.parametrize("code", ["image_not_found", "payment_required", "machine_limit"])
def test_a_refusal_of_fly_that_ends_costs_no_job_and_no_attempt(net: Net, source: str, code: str) -> None:
    net.set_faults(**{code: 1.0})
    job_id = net.user.submit(source, variations=1, kind="jobs")["job_id"]
    until(
        lambda: (net.user.show(job_id)["waiting"] or {}).get("code") == code
    )  # or first for a machine's place
    net.set_faults()
    end = all_ready(net, job_id)
    assert len(end["attempts"]) == 1
    assert_idle(net.stack, net.user)


def all_ready(net: Net, job_id: str) -> dict[str, Any]:
    end = net.user.wait(job_id)
    assert (end["status"], end["partial"]) == ("completed", False), end
    assert {output["status"] for output in outputs(end)} == {"ready"}
    return end


def port_of(url: str) -> int:
    return urlsplit(url).port or 0
