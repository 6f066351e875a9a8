"""`make bench`: every benchmark, one line each."""

from __future__ import annotations

from bench import batch, main_job, planner, startup

for bench in (startup.run, planner.run, main_job.run, batch.run):
    for line in bench():
        print(line, flush=True)
