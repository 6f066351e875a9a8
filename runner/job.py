"""The work of one attempt: fetch each source once, render its outputs, upload each as soon as it is ready.

Must never let one output's failure cost its siblings, nor report an output as ended that another attempt
could still make.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from threading import BoundedSemaphore

from runner import ffmpeg, transfer
from runner.contract import JobSpec, OutputError, OutputFault, OutputSpec, Reason, SourceSpec
from runner.deliver import deliver
from runner.graph import Probe
from runner.log import record
from runner.probe import OutputFailure, probe
from runner.progress import Progress
from runner.render import Source, Studio
from runner.stop import Stop, Stopped


@dataclass
class Job:
    """Everything that the work needs. `folder` is private and holds two sources and some outputs."""

    spec: JobSpec
    program: str
    folder: Path
    progress: Progress
    stop: Stop
    studio: Studio = field(init=False)

    def __post_init__(self) -> None:
        self.studio = Studio(
            program=self.program,
            folder=self.folder,
            cores=BoundedSemaphore(_core_count()),
            progress=self.progress,
            stop=self.stop,
        )

    def work(self) -> None:
        """Make all outputs, as many at once as there are cores; results are in `progress`.

        Returns early when `stop` is set, by whomever: then outputs that did not end have no final report.
        While one source is rendered the next one is fetched. Raises what was not foreseen.
        """
        # twice as many workers as cores, so that a core renders on while another worker uploads
        with ThreadPoolExecutor(2 * _core_count(), thread_name_prefix="output") as pool:
            before: _Started | None = None
            for source in self.spec.sources:
                started = self._start(source, pool)
                if before:
                    before.settle()
                before = started
            if before:
                before.settle()

    def _start(self, source: SourceSpec, pool: ThreadPoolExecutor) -> _Started:
        """Fetch and probe one source and hand its outputs to the pool."""
        outputs = [output for output in self.spec.outputs if output.source_id == source.source_id]
        path = Path(mkdtemp(dir=self.folder), "source.mp4")
        with self._guarding(outputs):
            found = self._prepare(source, path)
            made_of = Source(path=path, probe=found)
            return _Started(path, [pool.submit(self._make, output, made_of) for output in outputs])
        return _Started(path, [])

    def _prepare(self, source: SourceSpec, path: Path) -> Probe:
        with self.progress.timed("fetch_s"):
            transfer.fetch(source, path, stop=self.stop)
        with self.progress.timed("probe_s"):
            found = probe(self.program, path, stop=self.stop)
        record("source_ready", source_id=source.source_id, width=found.width, height=found.height)
        return found

    def _make(self, output: OutputSpec, source: Source) -> None:
        """Render and deliver one output; what fails is tried once more."""
        with self._guarding([output]):
            try:
                made = self.studio.alone(output, source)
            except (ffmpeg.FfmpegFailed, OutputFailure) as failure:
                record("output_again", output_id=output.output_id, message=str(failure))
                made = self.studio.alone(output, source)
            deliver(self.studio, made)

    @contextmanager
    def _guarding(self, outputs: Sequence[OutputSpec]) -> Iterator[None]:
        """Turn what goes wrong in the block into failed outputs, or into the end of the whole run."""
        try:
            yield
        except Stopped:
            return
        except OutputFailure as failure:
            self._fail(outputs, failure.code, failure.message)
        except ffmpeg.FfmpegTimedOut as failure:
            self._fail(outputs, OutputFault.RENDER_TIMEOUT, str(failure))
        except ffmpeg.FfmpegFailed as failure:
            self._fail(outputs, OutputFault.RENDER_FAILED, str(failure))
        except transfer.StorageUnavailable as trouble:
            self.stop.because(Reason.STORAGE_UNAVAILABLE, str(trouble))
        except BaseException:
            self.stop.because(Reason.RUNNER_CRASHED)
            raise

    def _fail(self, outputs: Sequence[OutputSpec], code: OutputFault, message: str) -> None:
        for output in outputs:
            self.progress.failed(output.output_id, OutputError(code=code, message=message))
            record("output_failed", output_id=output.output_id, code=code, message=message)


@dataclass(frozen=True)
class _Started:
    """A source whose outputs are being made."""

    path: Path
    outputs: list[Future[None]]

    def settle(self) -> None:
        """Wait for the outputs and free the source. Raises what one of them raised."""
        for output in self.outputs:
            output.result()
        self.path.unlink(missing_ok=True)


def _core_count() -> int:
    """Return how many cores this process may use: on a shared machine fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
