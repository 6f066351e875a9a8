"""Runs steps: each is printed before it runs. Must never print a secret, or give one as an argument."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable, MutableMapping, Sequence

from infra.provision.steps import Step

Say = Callable[[str], object]


class StepFailed(Exception):
    """A command failed; the message names it. What was done before stays, and may be run again."""


def run(steps: Sequence[Step], values: MutableMapping[str, str], *, apply: bool, say: Say) -> None:
    """Print each step and, with `apply`, run it; what steps keep goes into `values`. Raises StepFailed."""
    for number, step in enumerate(steps, 1):
        say(f"\n# {number}. {step.title}\n$ {printable(step, values)}")
        if apply:
            kept = _run(step, values, say)
            if step.keeps and kept is not None:
                values[step.keeps] = kept


def names_of_secrets(app: str) -> set[str]:
    """Return the names of the secrets that an app has; none where there is no such app yet."""
    asked = ["fly", "secrets", "list", "--app", app, "--json"]
    try:
        ended = subprocess.run(asked, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return set()  # the first step says so
    return set(re.findall(r'"[Nn]ame": *"(\w+)"', ended.stdout)) if ended.returncode == 0 else set()


def printable(step: Step, values: MutableMapping[str, str]) -> str:
    """Return the command as a person would type it; secrets come from a file that only names them."""
    command = shlex.join(_filled(step, values))
    return f"{command}  # stdin: {', '.join(f'{name}=...' for name in step.stdin)}" if step.stdin else command


def _filled(step: Step, values: MutableMapping[str, str]) -> list[str]:
    return [re.sub(r"\{(\w+)\}", lambda m: values.get(m[1], m[0]), word) for word in step.argv]


def _run(step: Step, values: MutableMapping[str, str], say: Say) -> str | None:
    lines = "".join(f"{name}={values[name]}\n" for name in step.stdin if values.get(name))
    try:
        ended = subprocess.run(
            _filled(step, values), input=lines, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise StepFailed(
            f"{step.argv[0]} is not installed: see https://fly.io/docs/flyctl/install/"
        ) from None
    said = ended.stdout + ended.stderr
    shown = "(what it printed holds secrets)" if step.shows_secrets else said[-2000:].rstrip()
    if ended.returncode and not (step.done_if and re.search(step.done_if, said, re.IGNORECASE)):
        raise StepFailed(f"{step.title}: {shlex.join(step.argv[:3])} ended with {ended.returncode}:\n{shown}")
    if step.keeps is None:
        say(shown)
        return None
    found = re.search(step.pattern, said)
    if found is None:
        raise StepFailed(f"{step.title}: {shlex.join(step.argv[:3])} did not print its {step.keeps}")
    return found[1]
