"""`make bench`: every benchmark, one line each."""

from __future__ import annotations

from bench import download, jail, main_job, startup, streams, uploads

for bench in (startup.run, jail.run, streams.run, uploads.run, download.run, main_job.run):
    for line in bench():
        print(line, flush=True)
