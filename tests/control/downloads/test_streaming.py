"""Streamed downloads: no chunk ahead of the client, and no thread of other calls."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import ExitStack, nullcontext
from typing import Any

import anyio
import anyio.to_thread
import pytest
from anyio import CapacityLimiter

from control.domain.errors import Code, ControlError
from control.downloads.streaming import (
    CHUNK_BYTES_MAX,
    CHUNK_BYTES_MIN,
    CHUNKS_BYTES,
    OPEN_MAX,
    OPEN_OF_ONE_MAX,
    Piped,
    Share,
)
from infra.ports import Unanswered


class Chunks:
    """Makes `count` chunks, and then raises what is given; notes how far it came."""

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.made, self.is_closed = 0, False
        self._count, self._error = count, error

    def __call__(self) -> Generator[bytes]:
        try:
            for _ in range(self._count):
                self.made += 1
                yield b"chunk"
            if self._error:
                raise self._error
        finally:
            self.is_closed = True


def piped(chunks: Generator[bytes], threads: CapacityLimiter | None = None) -> Piped:
    return Piped(
        chunks,
        place=nullcontext(),
        threads=threads or CapacityLimiter(1),
        status_code=200,
        headers={},
        media_type="application/zip",
    )


def test_an_answer_has_a_head_its_chunks_and_an_end() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    anyio.run(piped(Chunks(3)()).stream_response, send)
    assert [message.get("status") for message in sent[:1]] == [200]
    assert b"".join(message["body"] for message in sent[1:]) == b"chunk" * 3
    assert [message["more_body"] for message in sent[1:]] == [True] * 3 + [False]


def test_for_a_client_that_does_not_read_one_chunk_is_made_and_its_end_closes_the_source() -> None:
    chunks = Chunks(1000)

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            await anyio.sleep_forever()

    async def stalled() -> None:
        with anyio.move_on_after(0.05):
            await piped(chunks()).stream_response(send)

    anyio.run(stalled)
    assert (chunks.made, chunks.is_closed) == (1, True)


def test_a_bucket_that_fails_leaves_the_answer_without_its_end() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    chunks = Chunks(2, Unanswered("the bucket stays away"))
    anyio.run(piped(chunks()).stream_response, send)
    assert [message["more_body"] for message in sent[1:]] == [True, True]
    assert chunks.is_closed


def test_with_more_downloads_each_holds_less() -> None:
    share = Share()
    assert share.chunk_bytes == CHUNK_BYTES_MAX
    with ExitStack() as stack:
        for count in range(1, 20):
            stack.enter_context(share.taken(str(count)))
            assert share.chunk_bytes * count <= CHUNKS_BYTES
        for count in range(20, OPEN_MAX):
            stack.enter_context(share.taken(str(count)))
        assert share.chunk_bytes == CHUNK_BYTES_MIN
    assert share.chunk_bytes == CHUNK_BYTES_MAX


def test_downloads_are_limited_and_one_archive_cannot_take_all_places() -> None:
    share = Share()
    with ExitStack() as stack:
        for _ in range(OPEN_OF_ONE_MAX):
            stack.enter_context(share.taken("one"))
        with pytest.raises(ControlError) as refused, share.taken("one"):
            pass
        assert refused.value.code is Code.UNAVAILABLE
        for number in range(OPEN_MAX - OPEN_OF_ONE_MAX):
            stack.enter_context(share.taken(str(number)))
        with pytest.raises(ControlError), share.taken("another"):
            pass
    with share.taken("one"):
        assert share.chunk_bytes == CHUNK_BYTES_MAX


def test_an_error_of_our_own_is_not_hidden() -> None:
    async def send(_: Any) -> None:
        pass

    with pytest.raises(ZeroDivisionError):
        anyio.run(piped(Chunks(1, ZeroDivisionError())()).stream_response, send)


def test_downloads_that_wait_for_the_bucket_use_no_thread_of_other_calls() -> None:
    bucket_answers = threading.Event()

    def waiting() -> Generator[bytes]:
        assert bucket_answers.wait(30)
        yield b"late"

    async def send(_: Any) -> None:
        pass

    async def main() -> None:
        limiter = CapacityLimiter(4)
        async with anyio.create_task_group() as tasks:
            for _ in range(60):
                download = piped(waiting(), limiter)
                tasks.start_soon(download.stream_response, send)
            with anyio.fail_after(20):
                await anyio.to_thread.run_sync(bucket_answers.set)  # a beat, say: 40 such threads are shared

    anyio.run(main)
