"""Our signed URLs equal boto3's, byte by byte; test_s3.py shows that a server accepts them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.presign import Presigner
from infra.s3 import connect

KEYS = {"region": "auto", "access_key_id": "tid/+=_K", "secret_access_key": "tsec_/+=ü"}
LOCAL, TIGRIS = "http://127.0.0.1:8333", "https://t3.storage.dev"
HOSTILE = [
    "a.mp4",
    "a/ü +~'()*!&=?#%2F//../.x\n",
    "/leading//and trailing/",
    "..",
    "%",
    "\u202egnp.exe 日本語 🎬",
    "x" * 1000,
    "a;b,c:d@e[f]g{h}|i\\j^k`l<m>\"n'",
    "-_.~",
]
BOTO = {endpoint: connect(endpoint=endpoint, **KEYS) for endpoint in (LOCAL, TIGRIS)}


def botos(operation: str, key: str, endpoint: str = LOCAL, bucket: str = "bucket", **params: Any) -> str:
    client = BOTO.get(endpoint) or connect(endpoint=endpoint, **KEYS)
    params |= {"Bucket": bucket, "Key": key}
    return str(client.generate_presigned_url(operation, Params=params, ExpiresIn=900))


def ours(like: str, method: str, key: str, endpoint: str = LOCAL, bucket: str = "bucket", **what: Any) -> str:
    """Return our URL of the instant at which `like` was signed."""
    stamp = parse_qs(urlsplit(like).query)["X-Amz-Date"][0]
    now = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    signer = Presigner(endpoint=endpoint, bucket=bucket, **KEYS)
    return signer.url(method, key, now=now, expires_s=900, **what)


@pytest.mark.parametrize("endpoint", [LOCAL, TIGRIS])
@pytest.mark.parametrize("key", HOSTILE)
def test_every_kind_of_url_is_botos(key: str, endpoint: str) -> None:
    get = botos("get_object", key, endpoint)
    assert ours(get, "GET", key, endpoint) == get
    put = botos("put_object", key, endpoint, IfNoneMatch="*")
    assert ours(put, "PUT", key, endpoint, headers={"if-none-match": "*"}) == put
    part = botos("upload_part", key, endpoint, UploadId="u+/=~ %41", PartNumber=10000, ContentLength=77)
    query = {"uploadId": "u+/=~ %41", "partNumber": "10000"}
    assert ours(part, "PUT", key, endpoint, query=query, headers={"content-length": "77"}) == part


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_any_key_and_any_wished_answer_is_signed_as_boto_does(text: str) -> None:
    wished = botos("get_object", text, ResponseContentDisposition=text, ResponseContentType="video/mp4")
    query = {"response-content-disposition": text, "response-content-type": "video/mp4"}
    assert ours(wished, "GET", text, query=query) == wished


@pytest.mark.parametrize(
    ("endpoint", "bucket"),
    [
        ("https://fly.storage.tigris.dev", "a-bucket"),
        ("https://fly.storage.tigris.dev/", "a-bucket"),
        ("https://t3.storage.dev:443", "a-bucket"),
        ("https://t3.storage.dev:8443", "a-bucket"),
        ("https://t3.storage.dev", "with.dots"),  # no certificate covers it in front of the host
        ("https://t3.storage.dev", "Upper_case"),
        ("https://t3.storage.dev", "ab"),
        ("http://localhost:80", "a-bucket"),
        ("http://[::1]:8333", "a-bucket"),
        ("http://127.0.0.1:8333/below", "a-bucket"),
        ("https://s3.example.com", "a-bucket"),
    ],
)
def test_the_bucket_is_addressed_as_boto_does(endpoint: str, bucket: str) -> None:
    like = botos("get_object", "k", endpoint, bucket)
    assert ours(like, "GET", "k", endpoint, bucket) == like


def test_a_day_has_a_key_of_its_own() -> None:
    signer = Presigner(endpoint=LOCAL, bucket="bucket", **KEYS)
    days = [datetime(2026, 11, day, 23, 59, 59, tzinfo=UTC) for day in (20, 21)]
    signatures = {signer.url("GET", "k", now=day, expires_s=900).rpartition("=")[2] for day in (*days, *days)}
    assert len(signatures) == len(days)
