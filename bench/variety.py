"""How far variations lie from their source and from each other: `python -m bench.variety [OUTPUTS]`.

For each clip and choice of effects the kernel compares OUTPUTS variations at INSTANTS frames, as the runner
does for each output (`runner.contract.Variety`).
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence

from bench.render import CLIPS, SEED
from control.domain.effect_names import EFFECT_NAMES
from control.domain.effects import EffectChoice, effects
from runner.ffmpeg_program import find_ffmpeg
from runner.graph import Probe, even_size, standard
from runner.probe import probe
from runner.recipe import recipe_of
from runner.stop import Stop
from tests.support.distances import distances

INSTANTS = 8
CHOICES = {
    "all effects": EffectChoice(),
    "without mirror": EffectChoice(("mirror",)),
    "mirror alone": EffectChoice(tuple(name for name in EFFECT_NAMES if name != "mirror")),
}


def run(count: int = 10) -> Iterator[str]:
    """Yield a line for each clip and choice of effects."""
    for clip in sorted(CLIPS.glob("*.mp4")):
        found = probe(find_ffmpeg(), clip, stop=Stop())
        frames = _frames(str(clip), found)
        for words, choice in CHOICES.items():
            several = int(min(choice.distinct_max, count))
            recipes = [
                recipe_of(effects(seed=SEED, fingerprint=clip.stem, variation=n + 1, choice=choice))
                for n in range(several)
            ]
            yield f"{clip.stem}, {several} variations, {words}: {_spread(frames, found, recipes)}"


def _frames(clip: str, found: Probe) -> bytes:
    chosen = ",".join([f"fps={INSTANTS}/{found.duration_s}", *standard(found)])
    picture = ["-vf", chosen, "-frames:v", str(INSTANTS), "-f", "rawvideo", "-"]
    command = [find_ffmpeg(), "-v", "error", "-i", clip, *picture]
    return subprocess.run(command, check=True, capture_output=True).stdout


def _spread(frames: bytes, found: Probe, recipes: Sequence[str]) -> str:
    size = even_size(found)
    told = [
        distances(frames, *size, one, "compared", "1", *recipes[:n], *recipes[n + 1 :])
        for n, one in enumerate(recipes)
    ]
    kinds = {"to the source": "source_0", "to the nearest sibling": "sibling_0"}
    return ", ".join(f"{words} {_range([one[name] / 1e6 for one in told])}" for words, name in kinds.items())


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.3f}, {statistics.median(values):.3f}, {max(values):.3f}"


if __name__ == "__main__":
    for line in run(*map(int, sys.argv[1:])):
        print(line, flush=True)
