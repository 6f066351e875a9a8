"""What clients submit: sources, and what to make of each."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema, model_validator

from control.domain.effect_names import EFFECT_NAMES, STRENGTH_MIN, EffectName
from control.domain.effects import EffectChoice
from control.domain.encoding import Encoding
from control.domain.name_template import TEMPLATE_CHARS_MAX
from control.domain.name_template import why_refused as why_no_name
from control.domain.own_data import why_refused
from control.planning.planner import OUTPUTS_PER_BATCH_MAX, SOURCES_PER_BATCH_MAX, VARIATIONS_MAX
from control.views.schemas.base import Id, Name, Request, Url, like
from runner.contract import FrameRate, Preset, Quality

BATCH_NAME_CHARS_MAX = 100
SEED_MAX = 2**63 - 1
SECONDS_MAX = 1e9  # a larger deadline makes a plan's result infinite or no number

BatchName = Annotated[
    str, StringConstraints(min_length=1, max_length=BATCH_NAME_CHARS_MAX, pattern=r"^[^\x00]*$")
]

NameTemplate = Annotated[str, StringConstraints(min_length=1, max_length=TEMPLATE_CHARS_MAX)]


def _some_are_left(without: list[EffectName]) -> list[EffectName]:
    if len(set(without)) != len(without):
        raise ValueError("name each effect once")
    if len(without) == len(EFFECT_NAMES):
        raise ValueError("leave at least one of the eight effects in")
    return without


Without = Annotated[
    list[EffectName],
    Field(max_length=len(EFFECT_NAMES)),  # checked while the list is read
    AfterValidator(_some_are_left),
    WithJsonSchema(
        {
            "type": "array",
            "items": {"type": "string", "enum": list(EFFECT_NAMES)},
            "uniqueItems": True,
            "maxItems": len(EFFECT_NAMES) - 1,
        }
    ),
]


def _can_be_kept(data: dict[str, Any]) -> dict[str, Any]:
    if why := why_refused(data):
        raise ValueError(why)
    return data


OwnData = Annotated[dict[str, Any], AfterValidator(_can_be_kept)]

OUTPUT_URLS_CHARS_MAX = 2 * 1024**2  # of all URLs of a submit together: some 3,000 signed ones
OutputUrls = Annotated[list[Url], Field(min_length=1, max_length=VARIATIONS_MAX, fail_fast=True)]

Strength = Annotated[float, Field(ge=STRENGTH_MIN, le=1, allow_inf_nan=False)]
_SOURCE = {"source_id": "src_0123456789abcdef0123456789abcdef"}


class SourceRef(Request):
    """A source: the id of an uploaded video, or the URL of a video and a name for it.

    Without a name the last part of the path of the URL is used. `data` is the caller's own: at most 4 KiB of
    JSON that the batch, its manifest and its webhook show again.
    """

    source_id: Id | None = None
    url: Url | None = None
    name: Name | None = None
    data: OwnData | None = None
    output_urls: OutputUrls | None = None  # one for each of its outputs, which is also PUT there

    @model_validator(mode="after")
    def _one_of_both(self) -> SourceRef:
        if (self.source_id is None) == (self.url is None):
            raise ValueError("name either a source_id or a url")
        if self.source_id is not None and self.name is not None:
            raise ValueError("an uploaded source has its name already")
        return self


class NewJob(Request):
    """What to make of each source: `variations`, or a `preset`. The same seed makes the same effects."""

    model_config = like({"sources": [_SOURCE], "variations": 10, "without": ["mirror"], "name": "Spring"})

    sources: Annotated[list[SourceRef], Field(min_length=1, max_length=SOURCES_PER_BATCH_MAX)]
    variations: Annotated[int, Field(ge=1, le=VARIATIONS_MAX)] | None = None
    seed: Annotated[int, Field(ge=0, le=SEED_MAX)] | None = None
    max_cost_usd: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    output_url: Url | None = None  # only with exactly one output, which is also PUT there
    webhook_url: Url | None = None  # gets a signed request at the end
    preset: Literal["web-optimized", "hls", "copy", "default"] | None = None  # `default` is `copy`
    name: BatchName | None = None  # people find the batch by it; also the name of the ZIP
    without: Without = Field([])  # effects that are left out
    strength: Strength = 1.0  # of the other effects: 1 is their whole range
    quality: Quality = "standard"
    frame_rate: FrameRate = "29.97"
    name_template: NameTemplate | None = None  # of the outputs' files, as in `{source}_{n}`

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.variations is None) == (self.preset is None):
            raise ValueError("give either variations or a preset")
        if self.preset is not None and (self.choice, self.encoding) != (EffectChoice(), Encoding()):
            raise ValueError("without, strength, quality and frame_rate are for variations, not for a preset")
        return self

    @model_validator(mode="after")
    def _can_be_named(self) -> Self:
        if self.name_template is not None:
            has_links = any(isinstance(source, SourceRef) and source.url for source in self.sources)
            if why := why_no_name(self.name_template, variations=self.variations, has_links=has_links):
                raise ValueError(f"name_template: {why}")
        return self

    @model_validator(mode="after")
    def _can_be_delivered(self) -> Self:
        each = self.variations or 1
        for number, source in enumerate(self.sources):
            urls = source.output_urls if isinstance(source, SourceRef) else None
            if urls and len(urls) != each:
                makes = f"each source makes {each} output{'s' if each > 1 else ''}"
                raise ValueError(f"sources.{number}.output_urls: {makes}, and this has {len(urls)} URLs")
        if self.output_url and self.output_urls:
            raise ValueError("give either output_url or the output_urls of sources")
        if sum(len(url) for _, url in self.output_urls) > OUTPUT_URLS_CHARS_MAX:
            raise ValueError(
                f"output_urls: all together have more than {OUTPUT_URLS_CHARS_MAX} characters;"
                " submit several batches"
            )
        return self

    @property
    def output_urls(self) -> list[tuple[str, str]]:
        """The URLs to which outputs are also PUT, each with the name of its field."""
        return [
            (f"sources.{number}.output_urls.{place}", url)
            for number, source in enumerate(self.sources)
            if isinstance(source, SourceRef)
            for place, url in enumerate(source.output_urls or ())
        ]

    @property
    def delivers(self) -> bool:
        """Whether any output is also PUT to a URL of the user."""
        return self.output_url is not None or bool(self.output_urls)

    @property
    def choice(self) -> EffectChoice:
        """The effects that are used, and their strength."""
        return EffectChoice(tuple(self.without), self.strength)

    @property
    def encoding(self) -> Encoding:
        """How variations are encoded."""
        return Encoding(quality=self.quality, frame_rate=self.frame_rate)

    @property
    def recipe(self) -> Preset | None:
        """The preset, or None for variations."""
        return Preset("copy" if self.preset == "default" else self.preset) if self.preset else None

    @property
    def outputs_count(self) -> int:
        """The number of outputs of all sources."""
        return (self.variations or 1) * len(self.sources)


class NewBatch(NewJob):
    """Like a job, on as many machines as needed."""

    __doc__ = f"Like a job, on as many machines as needed; at most {OUTPUTS_PER_BATCH_MAX} outputs."

    model_config = like(
        {
            "sources": [_SOURCE],
            "variations": 50,
            "name": "Spring",
            "name_template": "{source}_{date}_{n}",
            "max_cost_usd": 2.5,
        }
    )

    max_machines: Annotated[int, Field(ge=1)] | None = None  # at once; None: control decides
    # use the cheapest plan that meets it, or the fastest if none does
    deadline_s: Annotated[float, Field(gt=0, le=SECONDS_MAX, allow_inf_nan=False)] | None = None
