"""`make bench`: every benchmark, one line each."""

from __future__ import annotations

from bench import main_job, startup, uploads

for bench in (startup.run, main_job.run, uploads.run):
    for line in bench():
        print(line, flush=True)
