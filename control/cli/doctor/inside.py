"""The doctor with control's own settings: what only control's machine can see.

Reads and changes nothing of control: it opens no database, takes no lock, and its objects in the bucket lie
outside of every control's prefix and are removed.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from email.utils import parsedate_to_datetime
from hashlib import md5
from io import BytesIO
from pathlib import Path
from secrets import token_hex

import httpx
from sqlalchemy import make_url

from control.app import machines_of, storage_of
from control.cli.doctor import cloud, findings
from control.cli.doctor.findings import Finding
from control.settings import Settings
from control.store.database import require_mounted
from infra.hosts import DIRECT
from infra.ports import OutsideError
from infra.s3 import TigrisStorage

PREFIX = "doctor/"
COPY_PREFIX = "litestream/"
CONTENT = b"written by refresher doctor; may be deleted"
PAGES_MAX = 50  # of the copy's objects, a thousand each
TIMEOUT_S = 15.0
URL_S = 300

Checks = Callable[[], Iterator[Finding]]


def check(settings: Settings) -> Iterator[Finding]:
    """Yield every finding. A part that cannot be looked at is a finding too; the others are looked at."""
    yield from disk(settings)
    yield from _whole("bucket", lambda: bucket(settings), findings.BUCKET_KEYS)
    yield from _whole("database's copy", lambda: copy(settings), findings.BUCKET_KEYS)
    remedy = "Check the address and the network of this machine."
    yield from _whole("clock: bucket", lambda: clock("bucket", settings.aws_endpoint_url_s3), remedy)
    yield from _whole("clock: Fly", lambda: clock("Fly", settings.fly_api_url), remedy)
    with closing(machines_of(settings)) as machines:
        yield from cloud.check(machines, settings)
    yield from _whole("control", lambda: control(settings.public_url), "Check that control runs: fly logs.")


def _whole(check: str, looks: Checks, remedy: str) -> Iterator[Finding]:
    """Yield the findings of one part, and one more if it cannot be looked at to its end."""
    try:
        yield from looks()
    except (OutsideError, httpx.HTTPError, OSError) as error:
        yield findings.fail(check, f"{error}" or type(error).__name__, remedy)


class _Pauses:
    """Waits, and counts how often."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, seconds: float) -> None:
        self.count += 1
        time.sleep(seconds)


def disk(settings: Settings) -> Iterator[Finding]:
    """Yield whether the database is on its volume, and how much is free there."""
    if not settings.database_url.startswith("sqlite"):
        yield findings.ok("volume", "The database is on a server, whose disk cannot be seen from here.")
        return
    problem = ""
    try:
        require_mounted(settings.database_url, settings.database_mount)
    except OSError as error:
        problem = str(error)
    is_on_fly = settings.fly_app_name is not None
    yield findings.mount(problem, mount=settings.database_mount, is_on_fly=is_on_fly)
    folder = next(path for path in _database(settings).parents if path.exists())
    usage = shutil.disk_usage(folder)
    yield findings.room(usage.free, usage.total)


def _database(settings: Settings) -> Path:
    return Path(make_url(settings.database_url).database or "").resolve()


def bucket(settings: Settings) -> Iterator[Finding]:
    """Yield whether the bucket does what control and runners need. Raises OutsideError, httpx.HTTPError."""
    pauses = _Pauses()
    storage = storage_of(settings, pause=pauses)
    storage.check()
    yield findings.ok("bucket", f"{settings.bucket_name} at {settings.aws_endpoint_url_s3} takes our key.")
    storage.delete_many([found.key for found in storage.list_objects(PREFIX)])  # what an interrupted one left
    key = f"{PREFIX}{token_hex(8)}"
    try:
        yield from _one_object(storage, key, pauses)
        yield from _one_upload(storage, key)
    finally:
        with suppress(OutsideError):
            storage.delete(key)
    yield findings.cors(settings.origins, storage.allowed_origins())
    yield findings.lifecycle(is_set=storage.removes_unfinished_uploads())


def _one_object(storage: TigrisStorage, key: str, pauses: _Pauses) -> Iterator[Finding]:
    """PUT an object as a runner does, then see it as control does and read it as a runner does."""
    url, headers = storage.sign_put(key, expires_s=URL_S)
    with httpx.Client(timeout=TIMEOUT_S, mounts=DIRECT) as http:
        first, second = (http.put(url, headers=headers, content=CONTENT).status_code for _ in range(2))
        yield findings.conditional_put(first, second)
        if first != httpx.codes.OK:
            return
        stored = storage.head(key, is_fresh=True)
        yield findings.consistency(is_seen=stored is not None, is_late=pauses.count > 0)
        if stored is not None and stored.etag != md5(CONTENT, usedforsecurity=False).hexdigest():
            remedy = "Use a bucket whose ETag of a single PUT is its MD5: control compares them."
            yield findings.fail(
                "bucket: ETag", f"It is {stored.etag}, which is not the content's MD5.", remedy
            )
        read = http.get(storage.sign_get(key, expires_s=URL_S))
        if read.content != CONTENT:
            seen = f"A signed GET was answered {read.status_code} with {len(read.content)} bytes."
            yield findings.fail("bucket: signed GET", seen, findings.BUCKET_KEYS)
        else:
            yield findings.ok("bucket: signed GET", "It returns what was stored.")


def _one_upload(storage: TigrisStorage, key: str) -> Iterator[Finding]:
    """Open an upload in parts, store one and abort it, as a browser and the pass `abandon` do."""
    upload_id = storage.start_multipart(key, content_type="video/mp4")
    try:
        storage.put_part(key, upload_id, 1, BytesIO(CONTENT))
        listed = len(storage.list_parts(key, upload_id))
    finally:
        storage.abort_multipart(key, upload_id)
    if listed != 1:
        remedy = "Use a bucket that lists the parts of an upload: without it uploads cannot be resumed."
        yield findings.fail("bucket: upload in parts", f"One part was stored; {listed} are listed.", remedy)
        return
    yield findings.ok("bucket: upload in parts", "It was opened, its part was listed, and it was aborted.")


def copy(settings: Settings) -> Iterator[Finding]:
    """Yield how old Litestream's copy is against the last write. Raises OutsideError."""
    if not settings.database_url.startswith("sqlite"):
        yield findings.ok("database's copy", "The operator of the database server is responsible for copies.")
        return
    database = _database(settings)
    files = [database, database.with_name(f"{database.name}-wal")]
    written_at = max((file.stat().st_mtime for file in files if file.exists()), default=0.0)
    yield findings.copied(
        newest_at=_newest(storage_of(settings)),
        written_at=written_at,
        is_on_fly=settings.fly_app_name is not None,
    )


def _newest(storage: TigrisStorage) -> float | None:
    """Return when the newest object of the copy was stored, or None if there is none."""
    newest, after = None, ""
    for _ in range(PAGES_MAX):
        page = storage.list_objects(COPY_PREFIX, after=after)
        if not page:
            break
        newest = max(newest or 0.0, *(found.modified_at.timestamp() for found in page))
        after = page[-1].key
    return newest


def clock(who: str, url: str) -> Iterator[Finding]:
    """Yield how far the clock of a server is from this machine's. Raises httpx.HTTPError."""
    began = time.time()
    with httpx.Client(timeout=TIMEOUT_S, mounts=DIRECT) as http:
        answer = http.get(url)
    date = answer.headers.get("date")
    if date is None:
        yield findings.warn(
            f"clock: {who}", "Its answer has no Date header.", "Compare the clock by hand: date -u."
        )
        return
    middle = (began + time.time()) / 2 - 0.5  # a Date has whole seconds
    yield findings.clock(who, parsedate_to_datetime(date).timestamp() - middle)


def control(url: str) -> Iterator[Finding]:
    """Yield what control says about itself to everyone. Raises httpx.HTTPError."""
    with httpx.Client(base_url=url, timeout=TIMEOUT_S, mounts=DIRECT) as http:
        health = http.get("/api/health")
        if health.status_code != httpx.codes.OK:
            remedy = "Check that PUBLIC_URL leads to control: fly status, fly logs."
            yield findings.fail("control", f"{url}/api/health was answered {health.status_code}.", remedy)
            return
        report = health.json()
        yield findings.ok(
            "control", f"Version {report['version']} answers, with {report['active_jobs']} live jobs."
        )
        yield from findings.ready(http.get("/api/ready").json()["parts"])
