"""`make bench`: every benchmark, one line each."""

from __future__ import annotations

from bench import batch, download, jail, main_job, planner, render, startup, streams, uploads

BENCHES = (startup, jail, planner, streams, uploads, download, render, main_job, batch)

for bench in BENCHES:
    for line in bench.run():
        print(line, flush=True)
