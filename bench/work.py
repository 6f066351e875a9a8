"""The planner's constants (`control/planning/workload.py`), measured: core-seconds per megapixel of a frame.

`python -m bench.work` makes a group of four of one clip as the runner does, and writes the figures to
`bench/work.json`; `tests/control/planning/test_work_figures.py` holds the planner's constants against them.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
from pathlib import Path

from bench.render import CLIPS, EXCERPT_S, SEED, TIMED, excerpt
from control.domain.effects import SIBLINGS, effects
from control.domain.encoding import FRAMES_PER_S
from control.planning.workload import NOISE_SHARE
from runner.allowance import Allowance
from runner.contract import OutputSpec
from runner.ffmpeg_program import find_ffmpeg
from runner.kernel import find_kernel
from runner.memory import MemoryBudget
from runner.probe import probe
from runner.progress import Progress
from runner.render import Renderer, Source
from runner.stop import Stop
from runner.transfer import Deliveries

FIGURES = Path(__file__).with_suffix(".json")


def run(clip: Path) -> dict[str, float]:
    """Return the figures of one clip, the check of each output included."""
    stop = Stop()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        path = excerpt(clip, folder / "source.mp4")
        found = probe(find_ffmpeg(), path, stop=stop)
        renderer = Renderer(
            program=find_ffmpeg(),
            folder=folder,
            memory=MemoryBudget(4 << 30, stop),
            progress=Progress(),
            allowance=Allowance(None),
            deliveries=Deliveries(Allowance(None), allow=[], stop=stop),
            stop=stop,
            kernel=find_kernel(),
        )
        outputs = [
            OutputSpec(
                output_id=f"o{n}",
                source_id="s",
                effects=effects(seed=SEED, fingerprint=clip.stem, variation=n + 1),
                put_url="",
                put_headers={},
            )
            for n in range(SIBLINGS)
        ]
        source = Source(path=path, probe=found)
        begun = _cpu_s()
        _, shared = renderer.first(outputs[0], source)
        led = _cpu_s()
        made = renderer.others(outputs[1:], source, shared)
        assert len(made) == SIBLINGS - 1
        recipe = outputs[0].effects
        assert recipe
        frames = found.duration_s * FRAMES_PER_S / recipe.speed
        megapixels = found.width * found.height * frames / 1e6 * (1 + NOISE_SHARE * recipe.noise)
        return {
            "leader_s": round((led - begun) / megapixels, 4),
            "sibling_s": round((_cpu_s() - led) / len(made) / megapixels, 4),
        }


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    figures = run(CLIPS / f"{sys.argv[1] if len(sys.argv) > 1 else TIMED}.mp4")
    FIGURES.write_text(json.dumps({**figures, "excerpt_s": EXCERPT_S}, indent=2) + "\n")
    print(figures)
