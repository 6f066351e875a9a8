"""Transfers by signed URLs through a real connection, with a bucket that fails on demand."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import pytest

from runner import retry, transfer
from runner.allowance import Allowance, SendLimit
from runner.contract import OutputFault, PutTarget, SourceSpec
from runner.probe import OutputFailure
from runner.retry import RetryableError, retrying
from runner.stop import Stop, Stopped
from runner.transfer import Deliveries, StorageUnavailable, fetch, fingerprint, upload
from tests.support.clips import PLAIN
from tests.support.fake_control import SIGNATURE, FakeControl, fake_control

BYTES = random.Random(1).randbytes(3_000_000)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeControl]:
    monkeypatch.setattr(transfer, "PAUSE_S_MAX", 0.01)
    with fake_control() as control:
        control.sources = {"s1": BYTES}
        control.outputs = [("o1", "s1", PLAIN)]
        yield control


def fetched(bucket: FakeControl, tmp_path: Path, stop: Stop | None = None) -> bytes:
    path = tmp_path / "source"
    fetch(bucket.spec().sources[0], path, stop=stop or Stop())
    return path.read_bytes()


def put(bucket: FakeControl, tmp_path: Path, content: bytes, allowance: Allowance | None = None) -> None:
    path = tmp_path / "output"
    path.write_bytes(content)
    spec, allowance = bucket.spec().outputs[0], allowance or Allowance(None)
    target = PutTarget(url=spec.put_url, headers=spec.put_headers)
    with path.open("rb") as file:
        upload(target, file, len(content), stop=Stop(), allowance=allowance)


def test_a_cut_download_continues_where_it_ended(bucket: FakeControl, tmp_path: Path) -> None:
    bucket.cut_gets = 3
    assert fetched(bucket, tmp_path) == BYTES


def test_a_source_that_is_gone_is_the_outputs_fault(bucket: FakeControl, tmp_path: Path) -> None:
    bucket.failing["GET"] = [500, 410]
    with pytest.raises(OutputFailure) as caught:
        fetched(bucket, tmp_path)
    assert caught.value.code is OutputFault.SOURCE_GONE


def test_a_source_that_is_not_seen_yet_is_asked_for_once_more(
    bucket: FakeControl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "GONE_AGAIN_AFTER_S", 0.0)
    bucket.failing["GET"] = [404]
    assert fetched(bucket, tmp_path) == BYTES
    bucket.failing["GET"] = [404, 404]
    with pytest.raises(OutputFailure) as caught:
        fetched(bucket, tmp_path)
    assert caught.value.code is OutputFault.SOURCE_GONE


def test_a_bucket_that_never_answers_well_is_unavailable(
    bucket: FakeControl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "OUTAGE_S_MAX", 0)
    bucket.failing["GET"] = [503] * 8
    with pytest.raises(StorageUnavailable, match="the last try failed with 503"):
        fetched(bucket, tmp_path)


def test_many_failures_in_a_short_time_are_ridden_out(bucket: FakeControl, tmp_path: Path) -> None:
    bucket.failing["GET"] = [503] * 30
    assert fetched(bucket, tmp_path) == BYTES


class OwnTime(Stop):
    """A stop flag whose waits take no time, and the clock that they move."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.pauses = 0.0, []

    def monotonic(self) -> float:
        return self.now

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.append(timeout)
        self.now += timeout or 0
        return self.is_set()


@pytest.fixture
def own_time(monkeypatch: pytest.MonkeyPatch) -> OwnTime:
    """Pauses without jitter, as long as they may be, on a clock of their own."""
    clock = OwnTime()
    monkeypatch.setattr(retry, "time", clock)
    monkeypatch.setattr(retry.random, "uniform", lambda _, most: most)
    return clock


def away(clock: OwnTime, *, until: float) -> str:
    if clock.now < until:
        raise RetryableError("away")
    return "back"


def test_an_outage_is_ridden_out_with_growing_pauses(own_time: OwnTime) -> None:
    ask = partial(away, own_time, until=200)
    assert retrying(ask, stop=own_time, outage_s=300, pause_s_max=30) == "back"
    assert own_time.pauses == sorted(own_time.pauses)
    assert own_time.pauses[-1] == 30


def test_an_outage_without_end_fails(own_time: OwnTime) -> None:
    with pytest.raises(RetryableError, match="away"):
        retrying(partial(away, own_time, until=1000), stop=own_time, outage_s=300, pause_s_max=30)
    assert own_time.now <= 300


def test_headway_starts_the_limit_again(own_time: OwnTime) -> None:
    def cut() -> str:
        if own_time.now < 1000:
            own_time.now += 200
            raise RetryableError("cut", headway=True)
        return "whole"

    assert retrying(cut, stop=own_time, outage_s=100) == "whole"


def test_a_refused_signature_is_not_tried_again(bucket: FakeControl, tmp_path: Path) -> None:
    bucket.failing["PUT"] = [403, 403]
    with pytest.raises(StorageUnavailable) as caught:
        put(bucket, tmp_path, b"video")
    assert bucket.failing["PUT"] == [403]
    assert SIGNATURE not in str(caught.value)


def test_a_larger_source_than_promised_is_refused(bucket: FakeControl, tmp_path: Path) -> None:
    source = bucket.spec().sources[0].model_copy(update={"size_bytes": 10})
    with pytest.raises(StorageUnavailable, match="larger"):
        fetch(source, tmp_path / "source", stop=Stop())


def test_nothing_is_fetched_after_a_stop(bucket: FakeControl, tmp_path: Path) -> None:
    stop = Stop()
    stop.set()
    with pytest.raises(Stopped):
        fetched(bucket, tmp_path, stop)


def test_an_object_that_is_there_already_is_left_as_it_is(bucket: FakeControl, tmp_path: Path) -> None:
    put(bucket, tmp_path, b"first")
    put(bucket, tmp_path, b"second")
    assert bucket.objects == {"output/o1": b"first"}


def test_a_large_upload_arrives_whole_after_failures(bucket: FakeControl, tmp_path: Path) -> None:
    bucket.failing["PUT"] = [503, 429]
    put(bucket, tmp_path, BYTES)
    assert bucket.objects == {"output/o1": BYTES}


def test_the_fingerprint_of_known_bytes() -> None:
    facts = fingerprint(BytesIO(b"123456789"))
    assert (facts.size_bytes, facts.crc32) == (9, 0xCBF43926)
    assert facts.md5 == "25f9e794323b453885f5181f1b624d0b"
    assert facts.sha256.startswith("15e2b0d3c33891eb")


# --- the URLs of users --------------------------------------------------------------------------------


@pytest.fixture
def place(bucket: FakeControl, monkeypatch: pytest.MonkeyPatch) -> str:
    """The host and port of a user's server, which is not waited for."""
    monkeypatch.setattr(transfer, "FOREIGN_OUTAGE_S_MAX", 0.2)
    return bucket.url.removeprefix("http://")


def foreign(bucket: FakeControl, **changes: object) -> SourceSpec:
    return bucket.spec().sources[0].model_copy(update={"is_foreign": True, **changes})


def test_the_url_of_a_user_is_fetched_when_it_may_be(bucket: FakeControl, place: str, tmp_path: Path) -> None:
    fetch(foreign(bucket), tmp_path / "source", stop=Stop(), allow=[place])
    assert (tmp_path / "source").read_bytes() == BYTES


def test_the_url_of_a_user_that_is_private_is_never_called(
    bucket: FakeControl, place: str, tmp_path: Path
) -> None:
    with pytest.raises(OutputFailure, match="public internet") as caught:
        fetch(foreign(bucket), tmp_path / "source", stop=Stop())
    assert caught.value.code is OutputFault.SOURCE_UNREACHABLE
    why = handed_over(bucket.url, "another.example:80", Allowance(None))
    assert why
    assert "public internet" in why
    assert bucket.gets == 0


@pytest.mark.parametrize("statuses", [[404], [403], [302], [500] * 99], ids=str)
def test_a_url_that_gives_no_video_costs_its_outputs_and_not_the_run(
    bucket: FakeControl, place: str, tmp_path: Path, statuses: list[int]
) -> None:
    bucket.failing["GET"] = list(statuses)
    with pytest.raises(OutputFailure, match=f"answered {statuses[0]}") as caught:
        fetch(foreign(bucket), tmp_path / "source", stop=Stop(), allow=[place])
    assert caught.value.code is OutputFault.SOURCE_UNREACHABLE
    assert SIGNATURE not in caught.value.message


def test_a_url_that_fails_for_a_moment_is_repeated_from_the_start(
    bucket: FakeControl, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "FOREIGN_OUTAGE_S_MAX", 60)
    bucket.failing["GET"], bucket.cut_gets = [503], 1
    fetch(foreign(bucket), tmp_path / "source", stop=Stop(), allow=[place])
    assert (tmp_path / "source").read_bytes() == BYTES


@pytest.mark.parametrize(
    ("code", "words"),
    [(socket.EAI_NONAME, "no server of this name"), (socket.EAI_AGAIN, "cannot be looked up")],
)
def test_a_name_that_does_not_exist_is_not_asked_for_again(
    bucket: FakeControl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    asked: list[str] = []

    def look_up(host: str, *_: object, **__: object) -> None:
        asked.append(host)
        raise socket.gaierror(code, "no")

    monkeypatch.setattr(transfer, "FOREIGN_OUTAGE_S_MAX", 2)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(OutputFailure, match=words):
        fetch(foreign(bucket, get_url="https://no.example/ad.mp4"), tmp_path / "source", stop=Stop())
    assert (len(asked) == 1) == (code == socket.EAI_NONAME)


@pytest.mark.parametrize("tells_its_length", [True, False])
def test_a_url_that_gives_more_than_is_taken_is_left(
    bucket: FakeControl, place: str, tmp_path: Path, tells_its_length: bool
) -> None:
    bucket.tells_length = tells_its_length
    with pytest.raises(OutputFailure, match="larger than 1000000 bytes") as caught:
        fetch(foreign(bucket, size_bytes=1_000_000), tmp_path / "source", stop=Stop(), allow=[place])
    assert caught.value.code is OutputFault.SOURCE_TOO_LARGE
    path = tmp_path / "source"
    assert not path.exists() or path.stat().st_size <= 1_000_000


def test_a_url_that_drips_fails(
    bucket: FakeControl, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "FOREIGN_S_MAX", 0)
    with pytest.raises(OutputFailure, match="was not done within"):
        fetch(foreign(bucket), tmp_path / "source", stop=Stop(), allow=[place])


def test_a_result_is_delivered_to_the_url_of_a_user(bucket: FakeControl, place: str) -> None:
    bucket.failing["PUT"] = [503]
    url = bucket.spec().outputs[0].put_url.replace("output/o1", "theirs")
    assert handed_over(url, place, Allowance(None)) is None
    assert bucket.objects == {"theirs": BYTES}


def test_a_delivery_that_is_refused_says_so_without_the_url(bucket: FakeControl, place: str) -> None:
    bucket.failing["PUT"] = [403, 403]
    url = bucket.spec().outputs[0].put_url
    why = handed_over(url, place, Allowance(None))
    assert why == "The URL of the output did not accept it: its server answered 403."
    assert bucket.failing["PUT"] == [403]


def handed_over(url: str, place: str, allowance: Allowance) -> str | None:
    deliveries = Deliveries(allowance, allow=[place], stop=Stop())
    return deliveries.deliver(url, BytesIO(BYTES), len(BYTES))


# --- what may be sent ---------------------------------------------------------------------------------


def test_every_try_of_an_upload_counts_and_none_begins_that_does_not_fit(
    bucket: FakeControl, tmp_path: Path
) -> None:
    allowance = Allowance(2 * len(BYTES) + 5)
    bucket.failing["PUT"] = [503] * 9
    with pytest.raises(SendLimit, match="only 5 more may be"):
        put(bucket, tmp_path, BYTES, allowance)
    assert bucket.failing["PUT"] == [503] * 7
    assert allowance.sent_bytes == 2 * len(BYTES)


def test_the_unread_part_of_a_file_does_not_count(place: str) -> None:
    allowance = Allowance(None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = f"127.0.0.1:{server.getsockname()[1]}"
    assert handed_over(f"http://{nobody}/x", nobody, allowance) is not None
    assert allowance.sent_bytes == 0


def test_a_user_s_server_that_takes_all_bytes_and_fails_gets_no_more_than_may_be_sent(
    bucket: FakeControl, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "FOREIGN_OUTAGE_S_MAX", 60)
    bucket.failing["PUT"] = [503] * 9
    allowance = Allowance(6 * len(BYTES))
    why = handed_over(bucket.spec().outputs[0].put_url, place, allowance)
    assert why is not None
    assert why.startswith(
        "The URL of the output did not accept it: its server answered 503. It was not tried again: "
    )
    assert bucket.failing["PUT"] == [503] * 6
    assert allowance.sent_bytes == 3 * len(BYTES)  # the other half is for the bucket


def test_a_user_s_server_that_was_given_up_gets_one_try_for_each_further_output_until_it_is_back(
    bucket: FakeControl, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "FOREIGN_OUTAGE_S_MAX", 0.2)
    deliveries = Deliveries(Allowance(None), allow=[place], stop=Stop())

    def delivered(answers: list[int]) -> tuple[str | None, int]:
        bucket.failing["PUT"] = answers
        url = bucket.spec().outputs[0].put_url.replace("output/o1", f"theirs/{len(bucket.objects)}")
        return deliveries.deliver(url, BytesIO(BYTES), len(BYTES)), len(bucket.failing["PUT"])

    why, left = delivered([503] * 500)
    assert why == "The URL of the output did not accept it: its server answered 503."
    assert left <= 498
    assert delivered([503] * 2) == (why, 1)
    assert delivered([]) == (None, 0)
    assert delivered([503]) == (None, 0)


def test_a_redirected_body_counts_for_each_place_that_took_it(bucket: FakeControl, place: str) -> None:
    allowance = Allowance(None)
    with redirecting(bucket.spec().outputs[0].put_url.replace("output/o1", "theirs")) as at:
        deliveries = Deliveries(allowance, allow=[place, at], stop=Stop())
        refused = deliveries.deliver(f"http://{at}/", BytesIO(BYTES), len(BYTES))
    assert refused is None
    assert bucket.objects == {"theirs": BYTES}
    assert allowance.sent_bytes == 2 * len(BYTES)


@contextmanager
def redirecting(where: str) -> Iterator[str]:
    """Yield the place of a server that reads a body and sends its sender elsewhere."""

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(307)
            self.send_header("Location", where)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_files_that_are_sent_at_once_share_what_may_be_sent() -> None:
    allowance = Allowance(100)
    first = allowance.counted(iter([b"x" * 60]), 60)
    with pytest.raises(SendLimit):
        allowance.counted(iter([b"y" * 60]), 60)
    next(first)
    first.close()
    first.close()
    assert allowance.sent_bytes == 60
    allowance.counted(iter([b"y" * 40]), 40).close()
    assert allowance.sent_bytes == 60
