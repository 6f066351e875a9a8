"""`make bench`: every benchmark, one line each."""

from __future__ import annotations

from bench import main_job, startup, streams

for bench in (startup.run, streams.run, main_job.run):
    for line in bench():
        print(line, flush=True)
