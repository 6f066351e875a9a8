"""The client: a method for each call of the public API. Must never know more than docs/api.md tells.

One file, since it is one list of calls.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, Unpack

import httpx
from tenacity import (
    retry,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_fixed,
    wait_random_exponential,
)

from video_refresher import downloads, models
from video_refresher.api import Api, ApiError, address, segment
from video_refresher.events import SILENCE_S_MAX, Event, events
from video_refresher.models import Batch, Choices, Job, Source, SourceFacts, SourceRef
from video_refresher.uploads import OnBytes, Unfinished, Uploader

POLL_S = 5.0  # while there is no event stream
AWAY_S_MAX = 120.0
AWAY = (502, 503, 504)
PAGE_ITEMS = 100

AnySource = str | Source | SourceRef  # a string is the id of a source, or a link
Item = TypeVar("Item", bound=models.Summary)


class Client:
    """A signed-in client. Raises ApiError for a refusal, httpx.HTTPError when control does not answer.

    Ids of jobs (`job_...`) and of batches (`bat_...`) are taken by the same methods.
    """

    def __init__(
        self, http: httpx.Client, *, bucket: httpx.Client | None = None, unfinished: Unfinished | None = None
    ) -> None:
        """`http` calls control and sends the token; `bucket` calls signed URLs and must not send it."""
        self._api = Api(http)
        self._uploader = Uploader(self._api, bucket or httpx.Client(timeout=60), unfinished)

    @classmethod
    @contextmanager
    def signed_in(
        cls,
        url: str,
        *,
        password: str = "",
        token: str = "",
        unfinished: Unfinished | None = None,
        mounts: Mapping[str, httpx.BaseTransport | None] | None = None,
    ) -> Iterator[Client]:
        """Yield a client of the control at `url`, signed in with its password unless a token is given.

        With `unfinished` the client resumes uploads that an earlier process began. `mounts` is as for httpx.
        """
        with (
            httpx.Client(base_url=url, timeout=60, mounts=mounts) as http,
            httpx.Client(timeout=60, mounts=mounts) as bucket,
        ):
            client = cls(http, bucket=bucket, unfinished=unfinished)
            if token:
                client._api.use_token(token)
            else:
                client._api.sign_in(password)
            yield client

    def revoke_tokens(self) -> None:
        """Make every token issued so far useless, the one of this client included."""
        self._api.call("POST", "/api/auth/revoke")

    # --- videos -----------------------------------------------------------------------------------

    def upload(self, path: Path | str, *, name: str = "", on_bytes: OnBytes = lambda _: None) -> Source:
        """Upload a video in parallel parts directly to the bucket, and return its source.

        `name` is shown instead of the name of the file. Resumes an earlier upload of the same file; of one
        that is complete but not submitted yet it returns the source.
        """
        shown = (name or Path(path).name).encode(errors="replace").decode()  # names of files may be no text
        return self._uploader.upload(Path(path), shown, on_bytes)

    def abort_upload(self, upload_id: str) -> None:
        """End an upload, and remove the parts that are stored."""
        self._api.call("DELETE", f"/api/uploads/{segment(upload_id)}")

    def source_url(self, source_id: str) -> str:
        """Return a signed URL that plays an uploaded source for a while."""
        return self._redirect(f"/api/sources/{segment(source_id)}")

    # --- submitting -------------------------------------------------------------------------------

    def submit(
        self, sources: Sequence[AnySource], *, idempotency_key: str = "", **choices: Unpack[Choices]
    ) -> Batch:
        """Submit a batch and return it; it may use as many machines as are worth their cost.

        Safe to repeat with the same `idempotency_key`. Without one a key is made, so that a request whose
        answer was lost is sent again.
        """
        return Batch.model_validate(self._accepted("/api/batches", sources, choices, idempotency_key))

    def submit_job(
        self, sources: Sequence[AnySource], *, idempotency_key: str = "", **choices: Unpack[Choices]
    ) -> Job:
        """Submit a job for one machine, as `submit` does. Takes no `max_machines` and `deadline_s`."""
        return Job.model_validate(self._accepted("/api/jobs", sources, choices, idempotency_key))

    def quote(self, sources: Sequence[AnySource | SourceFacts], **choices: Unpack[Choices]) -> models.Quote:
        """Return the time and cost of a batch. Nothing is started; with SourceFacts nothing is uploaded."""
        answer = self._api.call("POST", "/api/quote", json=_asked(sources, choices))
        return models.Quote.model_validate(answer.json())

    # --- looking ----------------------------------------------------------------------------------

    def show(self, id_: str) -> Job | Batch:
        """Return the job or batch of this id."""
        return _shown(id_, self._api.call("GET", address(id_)))

    def jobs(self, *, limit: int = 20, q: str = "", status: str = "") -> list[models.JobSummary]:
        """Return the newest jobs; `q` is a text in a name, `status` one of the statuses."""
        return self._newest(models.JobSummary, "jobs", limit, {"q": q, "status": status})

    def batches(self, *, limit: int = 20, q: str = "", status: str = "") -> list[models.BatchSummary]:
        """Return the newest batches, as `jobs` does."""
        return self._newest(models.BatchSummary, "batches", limit, {"q": q, "status": status})

    def events(self, id_: str, *, after: int = 0) -> Iterator[Event]:
        """Yield the events of a job or batch that follow the event `after`. The first shows its progress.

        Ends after `end`, or at once if `end` is not later than `after`. Also ends when control closes the
        stream, which can happen at any time. Raises httpx.HTTPError when the connection breaks.
        """
        headers = {"Last-Event-ID": str(after)}
        timeout = httpx.Timeout(60, read=SILENCE_S_MAX)
        with self._api.stream(f"{address(id_)}/events", headers=headers, timeout=timeout) as answer:
            yield from events(answer.iter_lines())

    def wait(
        self,
        id_: str,
        *,
        on_look: Callable[[Job | Batch], object] = lambda _: None,
        on_event: Callable[[Event], object] = lambda _: None,
        on_away: Callable[[float], object] = lambda _: None,
    ) -> Job | Batch:
        """Return the job or batch when it has ended.

        Follows its event stream; while there is none, looks every POLL_S. `on_look` gets what each look
        shows, the last included, `on_event` each event. Each look without an answer calls `on_away` with
        the seconds for which control has not answered. Raises httpx.HTTPError, or the ApiError of a
        proxy, when these exceed AWAY_S_MAX.
        """
        look = _looked_at.retry_with(before_sleep=lambda state: on_away(state.seconds_since_start or 0.0))
        shown, position = look(self, id_), 0
        on_look(shown)
        while shown.is_live:
            position, is_end = self._follow(id_, position, on_event)
            if not is_end:
                time.sleep(POLL_S)
            shown = look(self, id_)
            on_look(shown)
        return shown

    def _follow(self, id_: str, position: int, on_event: Callable[[Event], object]) -> tuple[int, bool]:
        """Pass on events while the stream is open. Return the last position, and whether it is the end."""
        try:
            for event in self.events(id_, after=position):
                position = event.id or position
                on_event(event)
                if event.name == "end":
                    return position, True
        except httpx.TransportError:
            pass  # control restarts or is unreachable: the caller tries again
        except ApiError as refusal:  # too many streams are open
            if refusal.status != httpx.codes.TOO_MANY_REQUESTS and refusal.status < 500:
                raise
        return position, False

    # --- changing ---------------------------------------------------------------------------------

    def cancel(self, id_: str) -> Job | Batch:
        """Cancel a job or batch and return it; ready outputs stay."""
        return _shown(id_, self._api.call("POST", f"{address(id_)}/cancel"))

    def retry(self, id_: str) -> Job | Batch:
        """Make the missing outputs of an ended job or batch again, and return it."""
        return _shown(id_, self._api.call("POST", f"{address(id_)}/retry"))

    def delete(self, id_: str) -> None:
        """Delete a job or batch with its files."""
        self._api.call("DELETE", address(id_))

    # --- results ----------------------------------------------------------------------------------

    def download(
        self, id_: str, to: Path | str, *, on_progress: downloads.OnProgress = lambda *_: None
    ) -> None:
        """Write the ZIP of a job or batch to the file `to`, which is either complete or not there.

        A download that broke off is resumed, by this call or by the next one with the same file. Raises
        httpx.TransportError after too many broken connections.
        """
        downloads.save(self._api, id_, Path(to), on_progress)

    def download_link(self, id_: str, output_ids: Sequence[str] | None = None) -> models.Link:
        """Return a URL of the ZIP that needs no token; with `output_ids` of the ZIP of these alone."""
        body = {} if output_ids is None else {"output_ids": list(output_ids)}
        answer = self._api.call("POST", f"{address(id_)}/download-link", json=body)
        return models.Link.model_validate(answer.json())

    def share(self, id_: str) -> models.ShareLink:
        """Return a URL that shows the results of an ended batch to anyone. An earlier one ends."""
        answer = self._api.call("POST", f"{address(id_)}/share-link")
        return models.ShareLink.model_validate(answer.json())

    def unshare(self, id_: str) -> None:
        """End the share link of a batch."""
        self._api.call("DELETE", f"{address(id_)}/share-link")

    def output_url(self, output_id: str, *, disposition: str = "attachment", file: str = "") -> str:
        """Return a signed URL of an output, to save or (`inline`) to play; `file` is one of `hls`."""
        query = {"disposition": disposition} | ({"file": file} if file else {})
        return self._redirect(f"/api/outputs/{segment(output_id)}", params=query)

    def poster_url(self, output_id: str) -> str:
        """Return a signed URL of the picture of an output."""
        return self._redirect(f"/api/outputs/{segment(output_id)}/poster")

    # --- money, machines, storage, health -----------------------------------------------------------

    def costs(self, *, from_: str = "", to: str = "") -> models.Costs:
        """Return the costs of these days, written as YYYY-MM-DD."""
        days = {name: day for name, day in (("from", from_), ("to", to)) if day}
        return models.Costs.model_validate(self._api.call("GET", "/api/costs", params=days).json())

    def storage(self) -> models.Storage:
        """Return how much of the storage is used."""
        return models.Storage.model_validate(self._api.call("GET", "/api/storage").json())

    def machines(self) -> list[models.Machine]:
        """Return the machines of control that exist in the cloud now."""
        return _machines(self._api.call("GET", "/api/machines"))

    def reap(self, *, dry_run: bool) -> list[models.Machine]:
        """Destroy the machines that belong to no attempt and return them; with `dry_run` only return them."""
        return _machines(self._api.call("POST", "/api/machines/reap", params={"dry_run": dry_run}))

    def health(self) -> models.Health:
        """Return the version of control, and its number of live jobs."""
        return models.Health.model_validate(self._api.call("GET", "/api/health").json())

    def ready(self) -> models.Ready:
        """Return the state of what control needs. Raises ApiError 503 if a part of it fails."""
        return models.Ready.model_validate(self._api.call("GET", "/api/ready").json())

    # --- requests ---------------------------------------------------------------------------------

    def _accepted(self, path: str, sources: Sequence[AnySource], choices: Choices, key: str) -> Any:
        """Submit, and return the answer. Only then the uploads of the sources are forgotten."""
        body = _asked(sources, choices)
        answer = _place(self._api, path, body, key or uuid.uuid4().hex)
        self._uploader.forget([source["source_id"] for source in body["sources"] if "source_id" in source])
        return answer

    def _newest(self, model: type[Item], noun: str, limit: int, query: dict[str, str]) -> list[Item]:
        found: list[Item] = []
        cursor = ""
        while len(found) < limit:
            ask = {**query, "limit": min(PAGE_ITEMS, limit - len(found)), "cursor": cursor}
            page = self._api.call("GET", f"/api/{noun}", params=ask).json()
            found += [model.model_validate(item) for item in page["items"]]
            cursor = page["next_cursor"] or ""
            if not cursor:
                break
        return found

    def _redirect(self, path: str, **content: Any) -> str:
        answer = self._api.call("GET", path, follow_redirects=False, **content)
        return answer.headers["location"]


def _is_away(error: BaseException) -> bool:
    """Return whether control did not answer; while it starts again, a proxy before it may answer instead."""
    return isinstance(error, httpx.TransportError) or (isinstance(error, ApiError) and error.status in AWAY)


@retry(
    retry=retry_if_exception(_is_away),
    stop=stop_after_attempt(3),
    wait=wait_random_exponential(max=5),
    reraise=True,
)
def _place(api: Api, path: str, body: dict[str, Any], key: str) -> Any:
    return api.call("POST", path, json=body, headers={"Idempotency-Key": key}).json()


@retry(
    retry=retry_if_exception(_is_away),
    stop=stop_after_delay(AWAY_S_MAX),
    wait=wait_fixed(POLL_S),
    reraise=True,
)
def _looked_at(client: Client, id_: str) -> Job | Batch:
    return client.show(id_)


def _shown(id_: str, answer: httpx.Response) -> Job | Batch:
    model = Job if id_.startswith("job_") else Batch
    return model.model_validate(answer.json())


def _machines(answer: httpx.Response) -> list[models.Machine]:
    return [models.Machine.model_validate(item) for item in answer.json()["items"]]


def _asked(sources: Sequence[AnySource | SourceFacts], choices: Choices) -> dict[str, Any]:
    wanted = {name: value for name, value in choices.items() if value is not None}
    return {"sources": [_source(source) for source in sources], **wanted}


def _source(source: AnySource | SourceFacts) -> dict[str, Any]:
    if isinstance(source, str):
        return {"url" if source.startswith(("http://", "https://")) else "source_id": source}
    if isinstance(source, Source):
        return {"source_id": source.source_id}
    return source.model_dump(exclude_none=True)
