"""What all routes and passes work with. `app` creates it once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import urllib3

from control.auth.tokens import Signer
from control.cloud_state import Cloud
from control.settings import Settings
from control.store import Store
from control.store.idempotency import Answering
from control.turns import Turns
from control.views.batches import Views
from infra.ports import Clock, Machines, Storage


@dataclass(frozen=True, kw_only=True)
class AppContext:
    """The dependencies of one control."""

    settings: Settings
    clock: Clock
    store: Store
    views: Views
    signer: Signer
    storage: Storage
    machines: Machines
    cloud: Cloud
    bucket_http: urllib3.PoolManager  # to stream objects from signed URLs
    wake: Callable[[], None]  # makes the passes run now
    answering: Answering = field(default_factory=Answering)
    telling: Turns = field(default_factory=Turns)  # limits the webhook calls that run at once
    machine_env: Mapping[str, str] = field(default_factory=dict)  # added to the environment of every machine
