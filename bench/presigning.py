"""Signed URLs per second of CPU, ours against boto3's: a claim of 200 outputs signs six hundred."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from bench.line import line
from infra.s3 import TigrisStorage, connect

REGION, KEY_ID, KEY = "auto", "tid_bench", "tsec_bench"
ENDPOINT, BUCKET = "https://t3.storage.dev", "bench"
EACH_S = 1.0


def run() -> Iterator[str]:
    """Sign PUTs both ways."""
    storage = TigrisStorage(
        endpoint=ENDPOINT, bucket=BUCKET, region=REGION, access_key_id=KEY_ID, secret_access_key=KEY
    )
    boto = connect(endpoint=ENDPOINT, region=REGION, access_key_id=KEY_ID, secret_access_key=KEY)

    def botos(key: str) -> None:
        params = {"Bucket": BUCKET, "Key": key, "IfNoneMatch": "*"}
        boto.generate_presigned_url("put_object", Params=params, ExpiresIn=3600)

    theirs = _per_second(botos)
    ours = _per_second(lambda key: storage.sign_put(key, expires_s=3600))
    yield line(
        "presigning", ours, "URLs per CPU second", against=f"boto3: {theirs:.0f}, {ours / theirs:.0f}x"
    )


def _per_second(sign: Callable[[str], object]) -> float:
    sign("the first loads what it needs")
    signed, start = 0, time.thread_time()
    while (spent_s := time.thread_time() - start) < EACH_S:
        sign(f"own_0123456789ab/outputs/job_0123456789abcdef-1/out_{signed}.mp4")
        signed += 1
    return signed / spent_s
