"""The doctor from anywhere, as a client with control's address: what users of the deployment meet."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

import httpx

from control.cli.doctor import findings
from control.cli.doctor.findings import Finding, Status
from control.cli.doctor.inside import TIMEOUT_S, clock, control
from control.settings import origin
from infra.hosts import DIRECT, is_loopback

CONTENT = b"sixteen bytes..."
UPLOAD = {"name": "doctor.mp4", "size_bytes": len(CONTENT), "content_type": "video/mp4"}


def check(url: str, *, password: str = "", token: str = "") -> Iterator[Finding]:
    """Yield every finding. It ends early only if control cannot be reached."""
    try:
        yield _https(url)
        for finding in control(url):
            yield finding
            if finding.check == "control" and finding.status is Status.FAIL:
                return
        yield from clock("control", f"{url}/api/health")
        with httpx.Client(base_url=url, timeout=TIMEOUT_S, mounts=DIRECT) as http:
            yield from _signed_in(http, url, password=password, token=token)
    except (httpx.HTTPError, ValueError, KeyError) as error:
        remedy = "Check REFRESHER_URL, and that control runs: fly status, fly logs."
        yield findings.fail(
            "control", f"{url} does not answer as control does ({type(error).__name__}).", remedy
        )


def _https(url: str) -> Finding:
    if urlsplit(url).scheme == "https":
        return findings.ok("address", f"{url} is https.")
    if is_loopback(url):
        return findings.ok("address", f"{url} is on this machine, so it needs no https.")
    return findings.fail(
        "address", f"{url} is plain http.", "Use the https address, and set PUBLIC_URL to it."
    )


def _signed_in(http: httpx.Client, url: str, *, password: str, token: str) -> Iterator[Finding]:
    if not token:
        answer = http.post("/api/auth", json={"password": password})
        if answer.status_code != httpx.codes.OK:
            seen = f"The password was answered {answer.status_code}: {_words(answer)}"
            yield findings.fail("sign-in", seen, "Correct REFRESHER_PASSWORD; after a 429 wait as it says.")
            return
        token = answer.json()["token"]
    http.headers["Authorization"] = f"Bearer {token}"
    shown = http.get("/api/machines")
    if shown.status_code == httpx.codes.UNAUTHORIZED:
        yield findings.fail(
            "sign-in", "Control refuses the token.", "Sign in again, or use REFRESHER_PASSWORD."
        )
        return
    yield findings.ok("sign-in", "Control accepts it.")
    yield _orphans(shown)
    yield _version(http.get("/api/health").json()["version"])
    yield from _upload(http, url)


def _orphans(shown: httpx.Response) -> Finding:
    if shown.status_code != httpx.codes.OK:
        remedy = "Run the doctor inside: it shows Fly's answers."
        return findings.fail("machines", f"They are not listed: {_words(shown)}", remedy)
    items: list[dict[str, Any]] = shown.json()["items"]
    orphans = sum(bool(item.get("orphan")) for item in items)
    if orphans:
        return findings.warn(
            "machines",
            f"{orphans} of {len(items)} belong to no attempt.",
            "Look at them, then destroy them: refresher reap.",
        )
    return findings.ok("machines", f"{len(items)} exist, each for an attempt." if items else "None exists.")


def _version(theirs: str) -> Finding:
    ours = version("video-refresher")
    if theirs == ours:
        return findings.ok("version", f"Control and this command are {ours}.")
    remedy = "Use the command of the same version, or release: refresher provision release."
    return findings.warn("version", f"Control is {theirs}, this command {ours}.", remedy)


def _upload(http: httpx.Client, url: str) -> Iterator[Finding]:
    """Upload a few bytes as a page does, preflight included, and abort the upload."""
    opened = http.post("/api/uploads", json=UPLOAD)
    if opened.status_code != httpx.codes.CREATED:
        remedy = "Do what the message says; the doctor inside shows more."
        yield findings.fail("upload as a page", f"It is not opened: {_words(opened)}", remedy)
        return
    upload = opened.json()
    try:
        yield _part(upload["parts"][0]["url"], origin(url))
    finally:
        http.delete(f"/api/uploads/{upload['upload_id']}")


def _part(part_url: str, from_origin: str) -> Finding:
    check, place = "upload as a page", urlsplit(part_url).netloc
    asks = {"Origin": from_origin, "Access-Control-Request-Method": "PUT"}
    try:
        with httpx.Client(timeout=TIMEOUT_S, mounts=DIRECT) as bucket:
            preflight = bucket.options(part_url, headers=asks)
            allowed = preflight.headers.get("access-control-allow-origin")
            if allowed not in ("*", from_origin):
                seen = f"{place} forbids PUTs by pages of {from_origin} ({preflight.status_code})."
                return findings.fail(check, seen, findings.SET_RULES)
            put = bucket.put(part_url, content=CONTENT, headers={"Origin": from_origin})
    except httpx.HTTPError as error:
        remedy = "Check S3_PUBLIC_ENDPOINT_URL: browsers must reach the bucket by it."
        return findings.fail(
            check, f"The bucket at {place} does not answer ({type(error).__name__}).", remedy
        )
    if put.status_code != httpx.codes.OK or "etag" not in put.headers:
        return findings.fail(check, f"A part was answered {put.status_code}.", findings.BUCKET_KEYS)
    return findings.ok(check, f"Pages of {from_origin} can upload to {place}.")


def _words(answer: httpx.Response) -> str:
    """Return control's own words for a refusal, or its status."""
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"
