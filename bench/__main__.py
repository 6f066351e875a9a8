"""`make bench`: every benchmark, one line each."""

from __future__ import annotations

from bench import jail, main_job, startup

for bench in (startup.run, jail.run, main_job.run):
    for line in bench():
        print(line, flush=True)
