"""`make bench`: every benchmark, one line each."""

from __future__ import annotations

from bench import (
    batch,
    download,
    jail,
    keeping,
    load,
    main_job,
    planner,
    presigning,
    reads,
    render,
    startup,
    streams,
    uploads,
    variety,
)

BENCHES = (
    startup,
    jail,
    planner,
    presigning,
    reads,
    keeping,
    load,
    streams,
    uploads,
    download,
    render,
    main_job,
    batch,
    variety,
)

for bench in BENCHES:
    for line in bench.run():
        print(line, flush=True)
