"""Signed URLs of one bucket: AWS Signature Version 4 in the query, by arithmetic alone.

Must give the same bytes as boto3 (a test compares them). boto3 itself reads its model of S3 for every URL,
which takes thirteen times the CPU (`bench/presigning.py`), and a claim may need six hundred URLs.
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html (2026-11)
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from urllib.parse import quote, urlsplit

from infra.ports import SIGNED_S_MAX

# Tigris documents virtual-host addressing for these; a server on an IP address can only do paths.
# https://www.tigrisdata.com/docs/api/s3/ (2026-11)
_VIRTUAL_HOSTS = ("storage.dev", "tigris.dev")
_HOST_LABEL = re.compile("[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_NONE: Mapping[str, str] = {}


def is_virtual_host(endpoint: str) -> bool:
    """Return whether an endpoint accepts the bucket's name in front of its own."""
    return (urlsplit(endpoint).hostname or "").endswith(_VIRTUAL_HOSTS)


class Presigner:
    """Signs URLs of a bucket for one of its addresses. Safe to share between threads."""

    def __init__(
        self, *, endpoint: str, region: str, access_key_id: str, secret_access_key: str, bucket: str
    ) -> None:
        address = urlsplit(endpoint)
        host, folder = address.netloc, address.path.rstrip("/")
        if is_virtual_host(endpoint) and _HOST_LABEL.fullmatch(bucket):
            host = f"{bucket}.{host}"
        else:
            folder += f"/{bucket}"
        self._origin, self._folder = f"{address.scheme}://{host}", folder
        self._host = host.removesuffix(_DEFAULT_PORTS.get(address.scheme, ""))  # clients leave it out
        self._region, self._access_key_id, self._secret = region, access_key_id, secret_access_key

    def url(
        self,
        method: str,
        key: str,
        *,
        now: datetime,
        expires_s: int,
        query: Mapping[str, str] = _NONE,
        headers: Mapping[str, str] = _NONE,
    ) -> str:
        """Return a URL that does this from `now` on for `expires_s`, sent with exactly these headers.

        Names of headers are in lower case.
        """
        assert expires_s <= SIGNED_S_MAX, f"no server accepts a URL that is signed for {expires_s} s"
        path = f"{self._folder}/{quote(key)}"
        stamp = f"{now:%Y%m%dT%H%M%SZ}"
        scope = f"{stamp[:8]}/{self._region}/s3/aws4_request"
        signed = sorted({**headers, "host": self._host}.items())
        signed_headers = ";".join(name for name, _ in signed)
        asked = {
            **query,
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{self._access_key_id}/{scope}",
            "X-Amz-Date": stamp,
            "X-Amz-Expires": str(expires_s),
            "X-Amz-SignedHeaders": signed_headers,
        }
        pairs = [f"{name}={quote(value, safe='')}" for name, value in asked.items()]
        head = [*(f"{name}:{value}" for name, value in signed), ""]
        request = [method, path, "&".join(sorted(pairs)), *head, signed_headers, "UNSIGNED-PAYLOAD"]
        digest = hashlib.sha256("\n".join(request).encode()).hexdigest()
        to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
        signature = _mac(_day_key(self._secret, stamp[:8], self._region), to_sign).hex()
        return f"{self._origin}{path}?{'&'.join(pairs)}&X-Amz-Signature={signature}"


@lru_cache(maxsize=4)
def _day_key(secret: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = _mac(key, part)
    return key


def _mac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
