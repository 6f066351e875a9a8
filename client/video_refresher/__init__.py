"""A typed, synchronous client of the Video Refresher API. README.md beside this package shows its use."""

from video_refresher.api import ApiError
from video_refresher.client import Client
from video_refresher.events import Event
from video_refresher.models import Batch, Choices, Job, Output, Quote, Source, SourceFacts, SourceRef
from video_refresher.uploads import Unfinished

__all__ = [
    "ApiError",
    "Batch",
    "Choices",
    "Client",
    "Event",
    "Job",
    "Output",
    "Quote",
    "Source",
    "SourceFacts",
    "SourceRef",
    "Unfinished",
]
