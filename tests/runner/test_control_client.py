"""The runner's reading of control's answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer

import pytest

from runner.contract import Finish, Timings, Usage
from runner.control_client import ControlClient

USAGE = Usage(wall_s=1, cpu_s=1, timings=Timings())


class _Empty(BaseHTTPRequestHandler):
    """Answers every call with 200 and no body."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def empty_answers() -> Iterator[str]:
    with TCPServer(("127.0.0.1", 0), _Empty) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_finish_is_accepted_with_any_body_of_its_answer(empty_answers: str) -> None:
    client = ControlClient(base_url=empty_answers, attempt_id="job_1-1", token="t", machine_id="m1")
    client.finish(Finish(seq=1, outcome="ok", outputs=[], usage=USAGE), until=time.monotonic() + 1)
