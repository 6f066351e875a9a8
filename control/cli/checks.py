"""Checks of options before a command sends anything. Each raises BadParameter with a sentence."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

import typer

from control.domain.effect_names import EFFECT_NAMES

NAME_CHARS_MAX = 100
OTHER_IDS = {"out": "an output", "src": "a source", "upl": "an upload"}


def job_or_batch(id_: str) -> str:
    """Return the id of a job or batch."""
    prefix = id_.partition("_")[0]
    if prefix in ("job", "bat") and "-" not in id_:
        return id_
    kind = "an attempt" if prefix == "job" else OTHER_IDS.get(prefix)
    what = f"{id_!r} is the id of {kind}" if kind else f"{id_!r} is no id"
    raise typer.BadParameter(f"{what}; give that of a job (job_...) or of a batch (bat_...).")


def some_usd(usd: float | None) -> float | None:
    """Return the amount if it is above 0. None means no limit."""
    if usd is not None and not 0 < usd < math.inf:
        raise typer.BadParameter("must be an amount above 0; without the option there is no limit.")
    return usd


def some_name(name: str | None) -> str | None:
    """Return a batch's name, of 1 to 100 characters, or None without one."""
    if name is not None and not 1 <= len(name) <= NAME_CHARS_MAX:
        raise typer.BadParameter(f"must have 1 to {NAME_CHARS_MAX} characters.")
    return name


def require_names(template: str | None, *, variations: int | None, has_links: bool) -> None:
    """Return if outputs can be named by the template; `variations` is None for a preset."""
    from control.domain.name_template import TEMPLATE_CHARS_MAX, why_refused

    if template is None:
        return
    why: str | None = f"must have 1 to {TEMPLATE_CHARS_MAX} characters"
    if 1 <= len(template) <= TEMPLATE_CHARS_MAX:
        why = why_refused(template, variations=variations, has_links=has_links)
    if why:
        raise typer.BadParameter(f"--name-template: {why}.")


def some_effects(names: list[str] | None) -> list[str] | None:
    """Return the effects that are left out. At least one must stay in."""
    if unknown := set(names or ()) - set(EFFECT_NAMES):
        raise typer.BadParameter(
            f"{min(unknown)!r} is not an effect; the effects are {', '.join(EFFECT_NAMES)}."
        )
    if set(names or ()) == set(EFFECT_NAMES):
        raise typer.BadParameter("leave at least one of the eight effects in.")
    return names


def some_regions(text: str) -> list[str]:
    """Return the regions of a list with commas, in their order."""
    regions = [word.strip() for word in text.split(",")]
    if not all(re.fullmatch("[a-z]{3}", region) for region in regions):
        raise typer.BadParameter(f"--region {text!r} must be codes of Fly's regions, like iad or iad,ord.")
    return regions


def require_digest(image: str) -> None:
    """Return if the image is named by its digest: a tag may name another image at the next build."""
    if not re.fullmatch(r"\S+@sha256:[0-9a-f]{64}", image):
        raise typer.BadParameter(
            "--python-image must name a digest, as in python:3.13-slim@sha256:...; "
            "`docker buildx imagetools inspect python:3.13-slim` prints the current one."
        )


def require_files(paths: Sequence[Path]) -> None:
    """Return if each path is a file."""
    for path in paths:
        if not path.is_file():
            raise typer.BadParameter(f"There is no file {str(path)!r}.")


def require_folder(out: Path) -> None:
    """Return if the path is a writable folder, or can become one."""
    nearest = next(path for path in (out, *out.parents) if path.exists())
    if not nearest.is_dir():
        raise typer.BadParameter(f"{str(nearest)!r} is a file; name a folder for the results.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise typer.BadParameter(f"{str(nearest)!r} cannot be written to; name another folder.")


def require_place(out: Path) -> None:
    """Return if the path can become a file in an existing folder."""
    if out.is_dir():
        raise typer.BadParameter(f"{str(out)!r} is a folder; name a file for the ZIP.")
    if not out.parent.is_dir():
        raise typer.BadParameter(f"There is no folder {str(out.parent)!r}.")
    require_folder(out.parent)
