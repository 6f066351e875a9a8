"""`make bench`: every benchmark, one line each."""

from __future__ import annotations

from bench import main_job, startup, streams, uploads

for bench in (startup.run, streams.run, uploads.run, main_job.run):
    for line in bench():
        print(line, flush=True)
