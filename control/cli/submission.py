"""Submits videos as one batch or as several, waits for them, and sums them up.

Several batches are made when rows of a list have their own number of variations, or of more than 100 videos.
They have one name. Of their money each gets what it is quoted at, and a part of the rest. `max_machines` and
`deadline_s` hold for each of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from control.cli import demo
from control.cli.destination import OUTPUTS_MAX as OUTPUTS_DELIVERED_MAX
from control.cli.destination import Destination
from control.cli.facts import by_batch
from control.cli.inputs import OUTPUTS_MAX, Inputs, Video
from video_refresher import ApiError, Batch, Choices, Client, Quote, Source, SourceRef

START_USD = 0.001  # for each machine: more is set aside for it than it is expected to cost


class NotSubmitted(Exception):
    """Nothing was submitted, or not all. The text says why; `refused` has files and reasons."""

    def __init__(self, text: str, refused: Sequence[dict[str, str]] = ()) -> None:
        super().__init__(text)
        self.refused = refused


@dataclass
class Submission:
    """The batches of one command, and the files that control refused."""

    name: str | None
    batches: list[Batch] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether all that was asked for is ready, and where it should be."""
        return not self.refused and all(batch.is_whole and batch.is_delivered for batch in self.batches)

    def summary(self) -> dict[str, Any]:
        """Return the batches and their sums, as data for programs."""
        counts = ("ready", "failed", "total")
        return {
            "name": self.name,
            "batches": [batch.model_dump(mode="json") for batch in self.batches],
            "refused": self.refused,
            "progress": {key: sum(getattr(batch.progress, key) for batch in self.batches) for key in counts},
            "cost_usd": round(sum(batch.cost_usd for batch in self.batches), 6),
        }


def submit(
    client: Client, inputs: Inputs, choices: Choices, console: Console, to: Destination | None = None
) -> Submission:
    """Upload the videos and submit them. Raises NotSubmitted, also if only the first of several batches were.

    `to` is a bucket of the user that gets the outputs too; those of several batches get a folder for each.
    Several batches are quoted before the first is submitted, so that one that cannot be is found in time.
    Each quote is of one batch alone, so the storage may still be too full for a later one.
    """
    made = Submission(choices.get("name"))
    _require_money(client, inputs, choices)
    names = {video.place: video.title for video in inputs.videos if isinstance(video.place, Path)}
    sources, made.refused = demo.upload(client, names, console) if names else ({}, [])
    most = OUTPUTS_DELIVERED_MAX if to else OUTPUTS_MAX
    asked = inputs.by_batch(choices.get("variations"), outputs_max=most)
    accepted = [(count, [each for each in videos if _is_accepted(each, sources)]) for count, videos in asked]
    made_of = [(count, videos) for count, videos in accepted if videos]
    groups = [(count, [_ref(video, sources) for video in videos]) for count, videos in made_of]
    if to:
        _address(to, groups, [videos for _, videos in made_of], choices.get("name_template"))
    if not groups:
        raise NotSubmitted(demo.NOTHING, made.refused)
    budgets = _budgets(client, groups, choices) if len(groups) > 1 else [choices.get("max_cost_usd")]
    for (count, refs), usd in zip(groups, budgets, strict=True):
        wish: Choices = {**choices, "variations": count, "max_cost_usd": usd}
        try:
            made.batches.append(client.submit(refs, **wish))
        except (ApiError, httpx.HTTPError, KeyboardInterrupt) as end:
            if not made.batches:
                raise
            ids = " ".join(batch.batch_id for batch in made.batches)
            raise NotSubmitted(
                f"{len(made.batches)} of {len(groups)} batches are submitted and continue: {ids}\n"
                f"{_next_one(end)}\n"
                "Submit the rest later, or stop these: refresher cancel ID"
            ) from None
    return made


def _require_money(client: Client, inputs: Inputs, choices: Choices) -> None:
    """Raise NotSubmitted if the videos are quoted at more than `max_cost_usd`: before they are uploaded.

    A file that is no video is not quoted: the upload says why it is refused.
    """
    most = choices.get("max_cost_usd")
    if most is None:
        return
    in_all = 0.0
    for count, known in by_batch(inputs, choices.get("variations"))[0]:
        wish: Choices = {**choices, "variations": count}  # a plan within `max_cost_usd` is preferred
        in_all += client.quote(known, **wish).cost_usd
    if in_all > most:
        raise NotSubmitted(
            "Nothing is submitted, and no file was sent:"
            f" this is quoted at ${in_all:.6f}, and may cost at most {_usd(most)}."
        )


def _usd(limit: float) -> str:
    """Return a limit as it was given, and never as 1e-05."""
    return f"${Decimal(str(limit)):f}"


def _next_one(end: BaseException) -> str:
    """Return what is known of the batch whose submit ended so: without an answer it may be submitted."""
    if isinstance(end, ApiError) and end.status < 500:
        return f"The next one was not: {end}"
    why = str(end) or type(end).__name__
    return f"The next one may be submitted too, since its answer is lost ({why}): see refresher batches"


def _budgets(
    client: Client, groups: Sequence[tuple[int | None, list[SourceRef]]], choices: Choices
) -> list[float | None]:
    """Return the part of `max_cost_usd` for each batch. Raises NotSubmitted if one cannot be made."""
    wishes: list[Choices] = [{**choices, "variations": count, "max_cost_usd": None} for count, _ in groups]
    quotes = [client.quote(refs, **wish) for (_, refs), wish in zip(groups, wishes, strict=True)]
    most, in_all = choices.get("max_cost_usd"), sum(quote.cost_usd for quote in quotes)
    problem = None
    if not all(quote.fits for quote in quotes):
        problem = "their results may not fit into the storage now."
    elif most is not None and in_all > most:
        problem = f"they are quoted at ${in_all:.6f} together, and --max-cost-usd is {_usd(most)}."
    if problem:
        raise NotSubmitted(f"Nothing is submitted. Of {len(groups)} batches: {problem}")
    return [None] * len(quotes) if most is None else _shares(quotes, most - in_all)


def _shares(quotes: Sequence[Quote], rest_usd: float) -> list[float | None]:
    """Return what each quote comes to, and its part of the rest."""
    weights = [quote.cost_usd + START_USD * quote.machines for quote in quotes]
    parts = [rest_usd * weight / sum(weights) for weight in weights]
    return [quote.cost_usd + part for quote, part in zip(quotes, parts, strict=True)]


def wait(client: Client, made: Submission, out: Path | None, console: Console) -> None:
    """Wait for each batch, and unpack its results into `out`; those of several into a folder for each."""
    for number, batch in enumerate(made.batches, start=1):
        ended = demo.watch(client, batch.batch_id, console)
        assert isinstance(ended, Batch), "its id is that of a batch"
        made.batches[number - 1] = ended
        if out and ended.progress.ready:
            folder = out / _folder(number) if len(made.batches) > 1 else out
            demo.download(client, ended.batch_id, folder, console)


def _folder(number: int) -> str:
    """Return the folder of the results of one of several batches."""
    return f"batch-{number:02}"


def _is_accepted(video: Video, uploaded: Mapping[Path, Source]) -> bool:
    return isinstance(video.place, str) or video.place in uploaded


def _ref(video: Video, uploaded: Mapping[Path, Source]) -> SourceRef:
    data = dict(video.data) if video.data else None
    if isinstance(video.place, str):
        return SourceRef(url=video.place, name=video.name, data=data)
    return SourceRef(source_id=uploaded[video.place].source_id, data=data)


def _address(
    to: Destination,
    groups: Sequence[tuple[int | None, Sequence[SourceRef]]],
    videos: Sequence[Sequence[Video]],
    template: str | None,
) -> None:
    """Give the sources of each batch the URLs of their outputs."""
    for number, ((count, refs), each) in enumerate(zip(groups, videos, strict=True), start=1):
        folder = f"{_folder(number)}/" if len(groups) > 1 else ""
        names = [video.file_name for video in each]
        urls = to.urls(names, variations=count, template=template, folder=folder)
        for ref, its_own in zip(refs, urls, strict=True):
            ref.output_urls = its_own
