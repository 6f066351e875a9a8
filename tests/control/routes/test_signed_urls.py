"""What the URLs of a taken-over runner open: its own outputs, each file of them once, by one PUT."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from control.routes.runner import take_claim
from control.store import queue
from runner.contract import Claim


def test_a_runner_can_store_each_file_of_its_own_outputs_once_and_nothing_else(context, rows):
    job_id = rows.submit(variations=5)
    queue.start(context.store, ["runners"])
    attempt_id = f"{job_id}-1"
    spec = take_claim(context, attempt_id, Claim(machine_id="m1"))
    again = take_claim(context, attempt_id, Claim(machine_id="m1"))
    keys = []
    for output in (*spec.outputs, *again.outputs):
        assert output.poster is not None
        assert output.playlist is None, "of preset `hls` alone"
        for url in map(urlsplit, (output.put_url, output.poster.url)):
            query = parse_qs(url.query)
            assert query["X-Amz-SignedHeaders"] == ["host;if-none-match"]
            assert not query.keys() & {"uploadId", "partNumber"}
            keys.append(url.path)
    assert len(set(keys)) == 2 * len(spec.outputs), "a repeated claim opens no other keys"
    assert all(f"/{attempt_id}/" in key for key in keys)
