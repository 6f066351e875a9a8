"""Event streams (SSE): after a commit, one broadcaster reads for all; idle streams cost no reads or threads.

Streams mostly wait, so they are async, and all state belongs to the event loop. Only `poke` and `stop` may be
called from any thread. A stream buffers at most one round of news. One that is slower reads the rest from the
database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from control.domain.errors import Code, ControlError
from control.http.threads import STREAMS
from control.telemetry.log import log_failure
from control.views.event_log import NewEvents, Opening, Timeline
from control.views.progress import Subject

STREAMS_MAX = 100
TICK_S = 0.5  # between two reads for all streams
PING_S = 15.0
LIFE_S = 30 * 60.0  # then the client must reconnect with `Last-Event-ID` and a valid token or ticket
RETRY_AFTER = {"Retry-After": "30"}

_PING = b": ping\n\n"
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class Live:
    """All open streams."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._streams: dict[EventStream, None] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._poked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._position = 0  # the id of the last event that was handed out
        self._is_stopping = False

    @property
    def open_streams(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    def stream(self, opening: Opening, *, after: int) -> EventStream:
        """Return the answer that streams the events after the id `after`."""
        return EventStream(self, self._timeline, opening, after)

    def poke(self) -> None:
        """Read the news soon, because something was committed."""
        if self._streams:
            self._call(self._poked.set)

    def stop(self) -> None:
        """End every stream now, and refuse new ones."""
        self._is_stopping = True
        self._call(self._end_all)

    def join(self, stream: EventStream, last_id: int) -> int:
        """Add a stream. Return the id of the event after which it gets news; it reads earlier ones itself.

        Raises ControlError: streams_full, unavailable.
        """
        if self._is_stopping:
            raise ControlError(Code.UNAVAILABLE, "Control is restarting. Connect again in a moment.")
        if len(self._streams) >= STREAMS_MAX:
            raise ControlError(
                Code.STREAMS_FULL,
                f"{STREAMS_MAX} streams are open already. Close one, or ask for the job itself meanwhile.",
                headers=RETRY_AFTER,
            )
        if not self._streams:
            self._begin(last_id)
        self._streams[stream] = None
        self._poked.set()
        return self._position

    def leave(self, stream: EventStream) -> None:
        """Remove a stream. After the last one the broadcaster stops."""
        self._streams.pop(stream, None)
        if not self._streams and self._task is not None:
            self._task.cancel()

    def _begin(self, last_id: int) -> None:
        self._loop, self._position = asyncio.get_running_loop(), last_id
        self._poked = asyncio.Event()
        self._task = asyncio.create_task(self._broadcast())

    def _call(self, what: object) -> None:
        with suppress(RuntimeError):  # the loop has ended, and all streams with it
            if self._loop is not None:
                self._loop.call_soon_threadsafe(what)  # type: ignore[arg-type]

    def _end_all(self) -> None:
        for stream in self._streams:
            stream.end()

    async def _broadcast(self) -> None:
        """Send the news to all streams, once per TICK_S unless a round was full, until it is cancelled."""
        while True:
            await self._poked.wait()
            self._poked.clear()
            asked = dict.fromkeys(self._streams)
            try:
                subjects = {stream.subject for stream in asked}
                news = await STREAMS.run(self._timeline.news, subjects, self._position)
            except Exception as error:  # noqa: BLE001 - the next round sends it
                log_failure("streams_not_updated", error)
                self._poked.set()
            else:
                self._position = news.last_id
                self._hand_out(news, asked)
                if not news.is_all:
                    self._poked.set()
                    continue
            await asyncio.sleep(TICK_S)

    def _hand_out(self, news: NewEvents, asked: Mapping[EventStream, None]) -> None:
        for stream in self._streams:
            if stream in asked:
                stream.take(news)
            else:
                stream.catch_up(news.last_id)


class EventStream(Response):
    """One event stream: the answer to its request."""

    media_type = "text/event-stream"

    def __init__(self, live: Live, timeline: Timeline, opening: Opening, after: int) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._live, self._timeline, self._opening = live, timeline, opening
        self._position = after  # the last event that was sent or is pending
        self.until = after  # the last event that is known to exist
        self.subject: Subject = opening.subject
        self._snapshot, self._facts = opening.snapshot.content, opening.snapshot.facts
        self._pending, self._pending_ends = b"", False
        self._is_over = False
        self._woken = asyncio.Event()

    def take(self, news: NewEvents) -> None:
        """Buffer a round of news. A stream that is behind only notes up to which event it has to read."""
        snapshot, events = news.snapshots.get(self.subject), news.pages.get(self.subject)
        if snapshot is None:
            self._is_over = True  # deleted
        elif snapshot.facts != self._facts:
            self._snapshot, self._facts = snapshot.content, snapshot.facts
        if self._pending or self._position < self.until:
            self.until = news.last_id
        else:
            self._position = self.until = max(self.until, news.last_id)
            if events is not None:
                self._pending, self._pending_ends = events.content, events.is_end
        self._woken.set()

    def catch_up(self, until: int) -> None:
        """Let a stream read up to `until` itself, since it joined while the news was being read."""
        self.until = max(self.until, until)
        self._woken.set()

    def end(self) -> None:
        """End the stream now. Its client reconnects with `Last-Event-ID`."""
        self._is_over = True
        self._woken.set()

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        """Stream to the end or until the client disconnects. Raises ControlError before anything is sent."""
        self.until = max(self._position, self._live.join(self, self._opening.last_id))
        life = asyncio.get_running_loop().call_later(LIFE_S, self.end)
        tasks = [asyncio.create_task(self._write(send)), asyncio.create_task(_gone(receive))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            life.cancel()
            self._live.leave(self)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _write(self, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            is_last = False
            while not is_last:
                chunk, is_last = await self._next()
                await send({"type": "http.response.body", "body": chunk, "more_body": not is_last})
        except Exception as error:  # noqa: BLE001 - the connection closes and its client reconnects
            log_failure("stream_broken", error, batch_id=self.subject.batch_id, job_id=self.subject.job_id)

    async def _next(self) -> tuple[bytes, bool]:
        """Wait for the next bytes. Return them and whether they are the last."""
        while True:
            if self._is_over:
                return b"", True
            if self._snapshot:
                chunk, self._snapshot = self._snapshot, b""
                return chunk, False
            if self._pending:
                chunk, self._pending = self._pending, b""
                return chunk, self._pending_ends
            if self._position < self.until:
                page = await STREAMS.run(self._timeline.page, self.subject, self._position, self.until)
                self._position = page.last_id
                return page.content, page.is_end
            self._woken.clear()
            try:
                await asyncio.wait_for(self._woken.wait(), PING_S)
            except TimeoutError:
                return _PING, False


async def _gone(receive: Receive) -> None:
    """Return when the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass
