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
from runner.contract import JobSpec, OutputError, OutputFault, OutputFile, OutputSpec, Reason, SourceSpec
from runner.graph import Probe, expected, variation_args
from runner.jail import JailUnavailable
from runner.log import record
from runner.probe import OutputFailure, check_output, probe
from runner.progress import Progress
from runner.stop import Stop, Stopped

RENDER_S_BASE = 60.0
RENDER_S_PER_SECOND = 60.0  # far above what the slowest machine needs: it catches what hangs


@dataclass
class Job:
    """Everything that the work needs. `folder` is private and holds two sources and some outputs."""

    spec: JobSpec
    program: str
    folder: Path
    progress: Progress
    stop: Stop
    cores: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(_core_count()))

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
            return _Started(path, [pool.submit(self._make, output, path, found) for output in outputs])
        return _Started(path, [])

    def _prepare(self, source: SourceSpec, path: Path) -> Probe:
        with self.progress.timed("fetch_s"):
            transfer.fetch(source, path, stop=self.stop, allow=self.spec.outbound_allow)
        with self.progress.timed("probe_s"):
            found = probe(self.program, path, stop=self.stop)
        record("source_ready", source_id=source.source_id, width=found.width, height=found.height)
        return found

    def _make(self, output: OutputSpec, source: Path, found: Probe) -> None:
        """Render, check and upload one output, then free its file."""
        path = Path(mkdtemp(dir=self.folder), "output.mp4")
        with self._guarding([output]):
            with self.cores:
                duration_s = self._render(output, source, found, path)
            facts = transfer.fingerprint(path)
            with self.progress.timed("upload_s"):
                transfer.upload(output, path, facts.size_bytes, stop=self.stop)
                undelivered = self._deliver(output, path, facts.size_bytes)
            described = _described(output, found, facts, duration_s)
            self.progress.ready(output.output_id, described, delivery_error=undelivered)
            record("output_ready", output_id=output.output_id, size_bytes=facts.size_bytes)
        path.unlink(missing_ok=True)

    def _deliver(self, output: OutputSpec, path: Path, size_bytes: int) -> str | None:
        """PUT the output where the user wants it too; return why that failed, or None."""
        if output.deliver_url is None:
            return None
        allow = self.spec.outbound_allow
        return transfer.deliver(output.deliver_url, path, size_bytes, stop=self.stop, allow=allow)

    def _render(self, output: OutputSpec, source: Path, found: Probe, path: Path) -> float:
        """Return the duration in seconds of the file that was rendered."""
        assert output.effects, "presets are not made yet"
        wanted = expected(output.effects, found)

        def tell(out_time_s: float) -> None:
            self.progress.running(output.output_id, min(99.0, 100 * out_time_s / wanted.duration_s))

        tell(0)
        args = variation_args(output.effects, found, source=str(source), output=str(path))
        with self.progress.timed("render_s"):
            ffmpeg.run(
                [self.program, *args],
                reads=[source],
                writes=[path.parent],
                on_progress=tell,
                timeout_s=RENDER_S_BASE + RENDER_S_PER_SECOND * wanted.duration_s,
                stop=self.stop,
            )
            return check_output(self.program, path, wanted, stop=self.stop)

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
        except JailUnavailable as trouble:
            self.stop.because(Reason.JAIL_UNAVAILABLE, str(trouble))
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


def _described(
    output: OutputSpec, found: Probe, facts: transfer.Fingerprint, duration_s: float
) -> OutputFile:
    assert output.effects, "presets are not made yet"
    return OutputFile(
        size_bytes=facts.size_bytes,
        sha256=facts.sha256,
        md5=facts.md5,
        crc32=facts.crc32,
        duration_s=duration_s,
        ffmpeg_args=variation_args(output.effects, found, source="SOURCE", output="OUTPUT"),
    )


def _core_count() -> int:
    """Return how many cores this process may use: on a shared machine fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
