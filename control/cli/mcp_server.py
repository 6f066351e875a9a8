"""`refresher mcp`: the API as tools of a Model Context Protocol server, over stdin and stdout.

A program that calls tools decides by itself how often and with what. So money is the guard: a submit without
`max_cost_usd` gets a bound from its quote, and control never spends more than the bound. Answers are short: a
batch of 10,000 outputs must fit into a conversation. One file: it is one list of tools with their texts.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import httpx
import typer
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field
from rich.console import Console

from control.cli import submission
from control.cli.connect import connected, unanswered
from control.cli.destination import destination, template_of
from control.cli.facts import described
from control.cli.inputs import Inputs, gathered
from control.domain.effect_names import EffectName
from video_refresher import ApiError, Batch, Choices, Client, Job
from video_refresher.models import Output, Summary

OUTPUTS_SHOWN = 50
# what a submit may cost without a word about money: more is set aside for a short job than it is quoted at
BOUND_FACTOR, BOUND_USD_MIN = 2.0, 0.01
WATCH_S_MAX = 300
LOOK_EVERY_S = 2.0

_READS = ToolAnnotations(read_only_hint=True)
_CHANGES = ToolAnnotations(read_only_hint=False, destructive_hint=False)
_ENDS = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True)

Videos = Annotated[
    list[str],
    Field(min_length=1, description="Paths of MP4 or MOV files on this machine, folders of them, or links."),
]
Variations = Annotated[int, Field(ge=1, le=100, description="How many variations of each video.")]
Without = Annotated[
    list[EffectName] | None,
    Field(description="Effects to leave out; text in a mirrored picture reads backwards."),
]
Strength = Annotated[float | None, Field(ge=0.1, le=1, description="How strong the effects are: 1 is all.")]
Quality = Annotated[Literal["standard", "high"] | None, Field(description="The quality of the variations.")]
NameTemplate = Annotated[
    str | None,
    Field(
        min_length=1,
        max_length=200,
        description="Names of the files, as in {source}_{n}; also {tag} {seed} {width} {height} {date}.",
    ),
]
Id = Annotated[
    str,
    Field(pattern="^(bat|job)_[A-Za-z0-9_]+$", description="The id of a batch (bat_) or job (job_)."),
]

server: MCPServer[Any] = MCPServer(
    "refresher",
    log_level="ERROR",
    instructions="Makes fresh variations of videos. Call quote before submit, and give submit a max_cost_usd"
    " that the user has agreed to. Then watch the batch until it has ended, and give the user its link.",
)


@server.tool(annotations=_READS)
def quote(
    videos: Videos,
    variations: Variations = 3,
    without: Without = None,
    strength: Strength = None,
    quality: Quality = None,
    name_template: NameTemplate = None,
) -> dict[str, Any]:
    """Say what a batch of these videos would take and cost. Nothing is uploaded, started or paid for.

    Gives the cost and time, whether the results fit into the storage, and `max_cost_usd`: the bound that
    submit sets if it gets none.
    """
    choices = _choices(variations, without, strength, quality, name_template)
    with _client() as client:
        inputs = gathered(videos)
        cost_usd, quotes = _quoted(client, inputs, choices)
        return {
            "videos": len(inputs.videos),
            "outputs": len(inputs.videos) * variations,
            "cost_usd": cost_usd,
            "makespan_s": max(quote["makespan_s"] for quote in quotes),
            "estimated": any(quote["estimated"] for quote in quotes),
            "fits": all(quote["fits"] for quote in quotes),
            "max_cost_usd": _bound(cost_usd),
        }


@server.tool(annotations=_CHANGES)
def submit(
    videos: Videos,
    variations: Variations = 3,
    max_cost_usd: Annotated[
        float | None,
        Field(
            gt=0,
            description="The most that this may cost, in USD; never exceeded. Ask the user. Without it the"
            " bound is twice the quote, and at least a cent.",
        ),
    ] = None,
    name: Annotated[str | None, Field(max_length=100, description="A name to find the batch by.")] = None,
    without: Without = None,
    strength: Strength = None,
    quality: Quality = None,
    name_template: NameTemplate = None,
    to: Annotated[
        str | None,
        Field(
            max_length=1300,
            description="Put the results into a bucket too: s3://BUCKET/PREFIX. The keys of the bucket are in"
            " the environment of this server (AWS_ACCESS_KEY_ID and the like), or it is refused.",
        ),
    ] = None,
) -> dict[str, Any]:
    """Upload videos and start making variations of them. This costs money, at most `max_cost_usd`.

    Returns at once with the id of each batch (more than 100 videos make several); `watch` follows one.
    Call it once for a wish: a second call makes everything a second time.
    """
    choices = _choices(variations, without, strength, quality, name_template)
    with _client() as client:
        inputs = gathered(videos)
        goal = destination(to, os.environ) if to else None
        if goal:
            choices["name_template"] = template_of(name_template, preset=None)
        bound = max_cost_usd or _bound(_quoted(client, inputs, choices)[0])
        wish: Choices = {**choices, "name": name or None, "max_cost_usd": bound}
        made = submission.submit(client, inputs, wish, Console(quiet=True), goal)
        return {
            "batches": [_short(batch) for batch in made.batches],
            "refused": made.refused,
            "max_cost_usd": bound,
        }


@server.tool(annotations=_READS)
def watch(
    id_: Id,
    within_s: Annotated[int, Field(ge=0, le=WATCH_S_MAX, description="Seconds to wait at most.")] = 45,
) -> dict[str, Any]:
    """Wait until a batch or job has ended, or `within_s` are over, and show it. `is_live`: call it again."""
    until = time.monotonic() + within_s
    with _client() as client:
        shown = client.show(id_)
        while shown.is_live and time.monotonic() < until:
            time.sleep(min(LOOK_EVERY_S, max(0.0, until - time.monotonic())))
            shown = client.show(id_)
        return _whole(shown)


@server.tool(annotations=_READS)
def show(id_: Id) -> dict[str, Any]:
    """Show a batch or job: its progress, cost, and its outputs with their problems."""
    with _client() as client:
        return _whole(client.show(id_))


@server.tool(name="list", annotations=_READS)
def list_(
    limit: Annotated[int, Field(ge=1, le=50)] = 10,
    search: Annotated[
        str, Field(max_length=100, description="Words in the name of a batch or its videos.")
    ] = "",
) -> dict[str, Any]:
    """List the newest batches."""
    with _client() as client:
        return {"batches": [_short(batch) for batch in client.batches(limit=limit, q=search)]}


@server.tool(annotations=_READS)
def link(
    id_: Id,
    output_ids: Annotated[list[str] | None, Field(description="Only these outputs; all without it.")] = None,
) -> dict[str, Any]:
    """Return a URL of the ZIP with the ready outputs. Whoever has it can download them until it expires."""
    with _client() as client:
        return client.download_link(id_, output_ids).model_dump(mode="json")


@server.tool(annotations=_ENDS)
def cancel(id_: Id) -> dict[str, Any]:
    """Stop a batch or job. Ready outputs stay; what was spent is spent."""
    with _client() as client:
        return _short(client.cancel(id_))


@contextmanager
def _client() -> Iterator[Client]:
    """Yield a client for one call, so that no token gets too old. A refusal becomes a text for the caller."""
    try:
        with connected() as client:
            yield client
    except (ApiError, typer.BadParameter, OSError) as refusal:
        raise ToolError(str(refusal)) from None
    except submission.NotSubmitted as why:
        reasons = [f"{each['name']}: {each['message']}" for each in why.refused]
        raise ToolError("\n".join([str(why), *reasons])) from None
    except httpx.HTTPError as error:
        raise ToolError(unanswered(error)) from None


def _choices(
    variations: int,
    without: list[EffectName] | None,
    strength: float | None,
    quality: Literal["standard", "high"] | None,
    name_template: str | None,
) -> Choices:
    return {
        "variations": variations,
        "without": without,
        "strength": strength,
        "quality": quality,
        "name_template": name_template,
    }


def _quoted(client: Client, inputs: Inputs, choices: Choices) -> tuple[float, list[dict[str, Any]]]:
    """Return the cost of the batches together, and their quotes. Raises BadParameter for what is no video."""
    batches = inputs.by_batch(choices.get("variations"))
    groups = [[described(video) for video in videos] for _, videos in batches]
    quotes = [client.quote(sources, **choices).model_dump(mode="json") for sources in groups]
    return sum(quote["cost_usd"] for quote in quotes), quotes


def _bound(cost_usd: float) -> float:
    """Return the bound for a quote, rounded up to a hundredth of a cent."""
    return max(math.ceil(cost_usd * BOUND_FACTOR * 10_000) / 10_000, BOUND_USD_MIN)


def _short(shown: Summary) -> dict[str, Any]:
    problem = shown.error or shown.waiting
    return {
        "id": shown.id,
        "name": shown.name,
        "sources": shown.source_names,
        "sources_count": shown.sources_count,
        "status": shown.status,
        "is_live": shown.is_live,
        "progress": shown.progress.model_dump(mode="json"),
        "cost_usd": shown.cost_usd,
        "problem": problem.message if problem else None,
        "expires_at": shown.expires_at and shown.expires_at.isoformat(),
    }


def _whole(shown: Job | Batch) -> dict[str, Any]:
    outputs = shown.outputs
    return {
        **_short(shown),
        "outputs": [_output(output) for output in outputs[:OUTPUTS_SHOWN]],
        "outputs_left_out": max(0, len(outputs) - OUTPUTS_SHOWN),
    }


def _output(output: Output) -> dict[str, Any]:
    return {
        "output_id": output.output_id,
        "name": output.name,
        "status": output.status,
        "problem": output.error.message if output.error else None,
        "delivered": output.delivered,
        "delivery_problem": output.delivery_error,
    }
