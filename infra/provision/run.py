"""Runs steps: each is printed before it runs. Must never print a secret, or give one as an argument."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence

from infra.provision.steps import Step

Say = Callable[[str], object]
_VALUE = re.compile(r"\{(\w+)\}")


class StepFailed(Exception):
    """A command failed; the message names it. Earlier steps stay done, and may be repeated."""


def run(steps: Sequence[Step], values: MutableMapping[str, str], *, apply: bool, say: Say) -> None:
    """Print each step and, with `apply`, run it. Kept values go into `values`. Raises StepFailed."""
    kept = {step.keeps for step in steps}
    for number, step in enumerate(steps, 1):
        say(f"\n# {number}. {step.title}\n$ {printable(step, kept | values.keys(), values)}")
        if step.unless:
            say(f"# unless it is done, as shown by: {shlex.join(step.unless.argv)}")
        if apply:
            _run(step, values, say)


def require_importable(values: Mapping[str, str]) -> None:
    """Raise StepFailed if `fly secrets import` would change one: it cuts at # and strips quotes."""
    for name, value in values.items():
        if re.search(r"[#\"'`\\\s]", value):
            raise StepFailed(
                f"{name} may have no space, quote, backslash or #: `fly secrets import` changes them"
            )


def names_of_secrets(app: str) -> set[str]:
    """Return the names of the secrets that an app has; none where there is no such app yet."""
    ended = _call(["fly", "secrets", "list", "--app", app, "--json"])
    if ended.returncode:
        return set()
    try:
        return {str(each.get("Name") or each.get("name")) for each in json.loads(ended.stdout) or ()}
    except (AttributeError, ValueError):
        raise StepFailed(
            "`fly secrets list --json` printed something that is not a list of secrets"
        ) from None


def printable(step: Step, known: Collection[str], values: Mapping[str, str]) -> str:
    """Return the command as a person would type it; of its stdin the names whose values will be known."""
    command = shlex.join(_filled(step, values))
    given = [f"{name}=..." for name in _given(step, known)]
    return f"{command}  # stdin: {', '.join(given)}" if given else command


def _given(step: Step, known: Collection[str]) -> list[str]:
    """Return the names on the stdin of a step whose values are all known."""
    return [name for name, text in step.stdin.items() if set(_VALUE.findall(text)) <= set(known)]


def _filled(step: Step, values: Mapping[str, str]) -> list[str]:
    return [_VALUE.sub(lambda m: values.get(m[1], m[0]), word) for word in step.argv]


def _lines(step: Step, values: Mapping[str, str]) -> str:
    """Return the stdin of a step: the lines whose values are all known."""
    lines = {name: _VALUE.sub(lambda m: values[m[1]], step.stdin[name]) for name in _given(step, values)}
    return "".join(f"{name}={text}\n" for name, text in lines.items())


def _call(argv: Sequence[str], stdin: str = "") -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise StepFailed(f"{argv[0]} is not installed: see https://fly.io/docs/flyctl/install/") from None


def _run(step: Step, values: MutableMapping[str, str], say: Say) -> None:
    if step.needs and step.needs not in values:
        say("# not needed")
        return
    if step.unless and step.unless.find(_succeeded(step.title, step.unless.argv).stdout):
        say("# it is done already")
        return
    ended = _succeeded(step.title, _filled(step, values), _lines(step, values), hide=step.shows_secrets)
    if not step.keeps:
        say(_shown(ended, hide=step.shows_secrets))
        return
    printed = (ended.stdout, ended.stderr)
    choose = step.choose
    found = next(
        filter(None, (choose(text, values) if choose else step.find(text) for text in printed)), None
    )
    found = found or step.otherwise
    if found:
        values[step.keeps] = found
    elif not step.is_optional:
        raise StepFailed(f"{step.title}: {shlex.join(step.argv[:3])} did not show its {step.keeps}")


def _succeeded(
    title: str, argv: Sequence[str], stdin: str = "", *, hide: bool = False
) -> subprocess.CompletedProcess[str]:
    ended = _call(argv, stdin)
    if ended.returncode:
        shown = _shown(ended, hide=hide)
        raise StepFailed(f"{title}: {shlex.join(argv[:3])} ended with {ended.returncode}:\n{shown}")
    return ended


def _shown(ended: subprocess.CompletedProcess[str], *, hide: bool) -> str:
    return "(what it printed holds secrets)" if hide else (ended.stdout + ended.stderr)[-2000:].rstrip()
