"""The work of one attempt: fetch each source once, then make its outputs while the next source is fetched.

An output must not be reported as ended if another attempt could still make it.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from threading import BoundedSemaphore

from runner import transfer
from runner.allowance import Allowance
from runner.contract import PROBE_BYTES, JobSpec, SourceSpec
from runner.kernel import find_kernel
from runner.log import record
from runner.memory import MemoryBudget, free_bytes
from runner.pipeline import Pipeline, Workers, failing, guarding
from runner.plain_files import removed_unless_well
from runner.probe import looked_into, probe, unread
from runner.progress import Progress
from runner.render import Renderer, Source
from runner.stop import Stop

UPLOADERS_PER_CORE = 3
GROUPS_AHEAD = 1  # so that no core is idle at the end of a source


@dataclass(frozen=True)
class Job:
    """Everything that the work needs. `folder` is private and holds two sources and some outputs."""

    spec: JobSpec
    program: str
    folder: Path
    progress: Progress
    allowance: Allowance
    stop: Stop

    def work(self) -> None:
        """Make all outputs, as many at once as there are cores; results are in `progress`.

        Returns early when `stop` is set; outputs that have not ended then have no final report. Unexpected
        exceptions pass through.
        """
        cores = core_count()
        with (
            ThreadPoolExecutor(cores, thread_name_prefix="render") as renderers,
            ThreadPoolExecutor(UPLOADERS_PER_CORE * cores, thread_name_prefix="upload") as uploaders,
        ):
            workers = Workers(
                renderer=self._studio(),
                renderers=renderers,
                uploaders=uploaders,
                groups=BoundedSemaphore(cores + GROUPS_AHEAD),
            )
            before: Pipeline | None = None
            for source in self.spec.sources:
                pipeline = self._begin(source, workers)
                if before:
                    before.settle()
                before = pipeline
            if before:
                before.settle()

    def _studio(self) -> Renderer:
        left_bytes = free_bytes() - held_bytes(self.spec)
        return Renderer(
            program=self.program,
            folder=self.folder,
            kernel=find_kernel(),
            memory=MemoryBudget(left_bytes, self.stop),
            deliveries=transfer.Deliveries(self.allowance, allow=self.spec.outbound_allow, stop=self.stop),
            progress=self.progress,
            allowance=self.allowance,
            stop=self.stop,
        )

    def _begin(self, spec: SourceSpec, workers: Workers) -> Pipeline | None:
        """Fetch and probe one source and pass its outputs to the workers."""
        outputs = [output for output in self.spec.outputs if output.source_id == spec.source_id]
        with guarding(workers.renderer), failing(workers.renderer, outputs):
            pipeline = Pipeline(workers, self._fetched(spec, workers.renderer.memory))
            pipeline.begin(outputs)
            return pipeline
        return None

    def _fetched(self, spec: SourceSpec, memory: MemoryBudget) -> Source:
        path = Path(mkdtemp(dir=self.folder), "source.mp4")
        with removed_unless_well(path):
            with self.progress.timed("fetch_s"):
                transfer.fetch(spec, path, stop=self.stop, allow=self.spec.outbound_allow)
            with memory.lent(PROBE_BYTES), self.progress.timed("probe_s"):
                promised = looked_into(path, is_new=spec.is_foreign)
                found = probe(self.program, path, stop=self.stop)
            for note in unread(found, promised) if promised else []:
                self.progress.noted(spec.source_id, note)
        record("source_ready", source_id=spec.source_id, width=found.width, height=found.height)
        return Source(path=path, probe=found, variations=spec.variations)


def held_bytes(spec: JobSpec) -> int:
    """Return the bytes of the two largest sources: one is rendered while the next is fetched."""
    return sum(sorted(source.size_bytes for source in spec.sources)[-2:])


def core_count() -> int:
    """Return the number of cores that this process may use: on a shared machine fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
