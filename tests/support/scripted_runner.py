"""A runner whose speed is written down: it makes each output in SECONDS, one after another, out of nothing.

Speaks the real wire and stores real objects; the test that needs it has it started in place of the runner.
"""

from __future__ import annotations

import hashlib
import os
import time
import zlib

import urllib3

from runner import contract
from runner.contract import Claim, Finish, JobSpec, OutputFile, OutputReport, OutputSpec, Timings, Usage

SECONDS = 0.5
CONTENT = b"0123456789abcdef" * 4096
ATTEMPT_ID = os.environ[contract.ENV_ATTEMPT_ID]
HTTP = urllib3.PoolManager(timeout=60)


def main() -> None:
    spec = JobSpec.model_validate_json(post("claim", Claim(machine_id=os.environ[contract.ENV_MACHINE_ID])))
    reports = [make(output) for output in spec.outputs]
    usage = Usage(wall_s=SECONDS * len(reports), cpu_s=0.1, timings=Timings())
    post("finish", Finish(seq=1, outcome="ok", outputs=reports, usage=usage))


def post(call: str, message: contract.Message) -> bytes:
    url = os.environ[contract.ENV_CONTROL_URL] + contract.attempt_path(ATTEMPT_ID, call)  # type: ignore[arg-type]
    headers = {
        "Authorization": f"Bearer {os.environ[contract.ENV_ATTEMPT_TOKEN]}",
        "Content-Type": "application/json",
    }
    answer = HTTP.request("POST", url, body=message.model_dump_json(), headers=headers)
    assert answer.status == 200, answer.data
    return answer.data


def make(output: OutputSpec) -> OutputReport:
    time.sleep(SECONDS)
    put = HTTP.request("PUT", output.put_url, body=CONTENT, headers=output.put_headers)
    assert put.status == 200, put.data
    file = OutputFile(
        size_bytes=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        md5=hashlib.md5(CONTENT).hexdigest(),
        crc32=zlib.crc32(CONTENT),
        duration_s=3.0,
        ffmpeg_args=["-i", "SOURCE", "OUTPUT"],
    )
    return OutputReport(output_id=output.output_id, status="ready", percent=100, file=file)


if __name__ == "__main__":
    main()
