"""From one source to all of its outputs: groups, second tries, uploads.

The failure of one output must not fail its siblings. An output that a group could not make is made once more,
alone and in the plain way, before it is reported as failed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from errno import ENOMEM, ENOSPC
from threading import BoundedSemaphore, Lock

from runner import ffmpeg
from runner.allowance import SendLimit
from runner.contract import OutputError, OutputFault, OutputSpec, Preset, Reason
from runner.groups import Group, grouped
from runner.jail import JailUnavailable
from runner.log import record
from runner.plain_files import NotPlain, remove
from runner.probe import OutputFailure, decoded, undecoded
from runner.publish import deliver
from runner.render import Rendered, Renderer, Shared, Source
from runner.stop import Stopped
from runner.transfer import StorageUnavailable

UNMADE = (
    "This could not be made from the video, in two ways. Export the video again, for example as H.264 with"
    " AAC sound; if that does not help, the machine's log names the cause."
)
FAILURES = (ffmpeg.FfmpegFailed, OutputFailure, NotPlain)  # of one output, which is made again


@dataclass(frozen=True, kw_only=True)
class Workers:
    """The threads: one renderer for each core, and others for uploads, so that rendering does not wait."""

    renderer: Renderer
    renderers: ThreadPoolExecutor
    uploaders: ThreadPoolExecutor
    groups: BoundedSemaphore  # limits how many groups hold analysis and sound in memory


@dataclass
class Pipeline:
    """The outputs of one source, from rendering to upload."""

    workers: Workers
    source: Source
    _is_measured: bool = False  # the source's lengths are those of what can be decoded
    _measuring: Lock = field(default_factory=Lock)
    _tasks: deque[Future[None]] = field(default_factory=deque)

    def begin(self, outputs: Sequence[OutputSpec]) -> None:
        """Pass the outputs to the workers. Waits while too many groups are open."""
        for group in grouped(outputs):
            if group.others:
                self.workers.groups.acquire()
                self._render(self._first, group)
            else:
                self._render(self._alone, group.first)

    def settle(self) -> None:
        """Wait for the outputs and free the source. Unexpected exceptions of a task pass through."""
        while self._tasks:
            self._tasks.popleft().result()  # a task adds those that follow it before it ends
        remove(self.source.path.parent)

    def _first(self, group: Group) -> None:
        """Make the first of a group, then its others; if the first fails, make each of them alone."""
        try:
            made, shared = self.workers.renderer.first(group.first, self.source)
        except FAILURES as failure:
            self.workers.groups.release()
            self._again([group.first], failure)
            for output in group.others:
                self._render(self._alone, output)
        except BaseException:
            self.workers.groups.release()
            raise
        else:
            self._deliver(made)
            self._render(self._others, group, shared)

    def _others(self, group: Group, shared: Shared) -> None:
        """Make the others of a group."""
        made: list[Rendered] = []
        why: Exception | None = None
        try:
            made = self.workers.renderer.others(group.others, self.source, shared)
        except FAILURES as failure:
            why = failure
        finally:
            shared.free()
            self.workers.groups.release()
        for one in made:
            self._deliver(one)
        well = {one.output.output_id for one in made}
        self._again([output for output in group.others if output.output_id not in well], why)

    def _alone(self, output: OutputSpec) -> None:
        """Make one output alone, and once more in the plain way if that fails."""
        try:
            made = self.workers.renderer.single(output, self.source)
        except FAILURES as failure:
            self._again([output], failure)
        else:
            self._deliver(made)

    def _again(self, outputs: Sequence[OutputSpec], why: Exception | None) -> None:
        """Make outputs once more; `why` is None for those whose first one came out well."""
        for output in outputs:
            message = "not what was asked for" if why is None else str(why)
            record("output_retried", output_id=output.output_id, message=message)
            self._render(self._once_more, output, isinstance(why, OutputFailure))

    def _once_more(self, output: OutputSpec, is_invalid: bool) -> None:
        with failing(self.workers.renderer, [output]):
            if is_invalid and output.preset is not Preset.COPY:
                self._measure(output.source_id)
            self._deliver(self.workers.renderer.alone(output, self.source))

    def _measure(self, source_id: str) -> None:
        """Take the lengths of the source from its pictures, once: its packets may hold none, by damage."""
        with self._measuring:
            if self._is_measured:
                return
            renderer, promised = self.workers.renderer, self.source.probe
            found = decoded(renderer.program, self.source.path, promised, stop=renderer.stop)
            for note in undecoded(found, promised):
                renderer.progress.noted(source_id, note)
            self.source, self._is_measured = replace(self.source, probe=found), True

    def _render(self, work: Callable[..., None], *what: object) -> None:
        self._tasks.append(self.workers.renderers.submit(self._guarded, work, *what))

    def _deliver(self, made: Rendered) -> None:
        self._tasks.append(self.workers.uploaders.submit(self._guarded, self._delivered, made))

    def _delivered(self, made: Rendered) -> None:
        with failing(self.workers.renderer, [made.output]):
            deliver(self.workers.renderer, made)

    def _guarded(self, work: Callable[..., None], *what: object) -> None:
        """Run the work; a failure that ends the whole run becomes its reason."""
        with guarding(self.workers.renderer):
            work(*what)


@contextmanager
def guarding(renderer: Renderer) -> Iterator[None]:
    """End the run, with its reason, if the block fails in a way that concerns all outputs."""
    try:
        yield
    except Stopped:
        return
    except JailUnavailable as trouble:
        renderer.stop.because(Reason.JAIL_UNAVAILABLE, str(trouble))
    except SendLimit as trouble:  # smaller files may still be sent
        renderer.stop.at_the_end(Reason.SEND_LIMIT, str(trouble))
        record("send_limit", message=str(trouble))
    except StorageUnavailable as trouble:
        renderer.stop.because(Reason.STORAGE_UNAVAILABLE, str(trouble))
    except BaseException as trouble:
        if _lacks_room(trouble):
            renderer.stop.because(Reason.OUT_OF_MEMORY, "no room is left for this program's own files")
            return
        renderer.stop.because(Reason.RUNNER_CRASHED)
        raise


def _lacks_room(trouble: BaseException) -> bool:
    """Return whether memory ran out, so a larger machine would help: files are in memory (`workspace`)."""
    return isinstance(trouble, MemoryError) or getattr(trouble, "errno", None) in (ENOSPC, ENOMEM)


@contextmanager
def failing(renderer: Renderer, outputs: Sequence[OutputSpec]) -> Iterator[None]:
    """Report these outputs as failed if the block fails.

    An output that lacked memory is not reported: a larger machine makes it.
    """
    try:
        yield
    except OutputFailure as failure:
        _fail(renderer, outputs, failure.code, failure.message)
    except NotPlain as failure:
        _fail(renderer, outputs, OutputFault.OUTPUT_INVALID, f"{failure}.")
    except ffmpeg.OutOfMemory as trouble:
        renderer.stop.at_the_end(Reason.OUT_OF_MEMORY, str(trouble))
        record("out_of_memory", outputs=[output.output_id for output in outputs])
    except ffmpeg.FfmpegTimedOut as failure:
        _fail(renderer, outputs, OutputFault.RENDER_TIMEOUT, str(failure))
    except ffmpeg.FfmpegFailed as failure:
        record("render_failed", message=str(failure))
        _fail(renderer, outputs, OutputFault.RENDER_FAILED, UNMADE)


def _fail(renderer: Renderer, outputs: Sequence[OutputSpec], code: OutputFault, message: str) -> None:
    for output in outputs:
        renderer.progress.failed(output.output_id, OutputError(code=code, message=message))
        record("output_failed", output_id=output.output_id, code=code, message=message)
