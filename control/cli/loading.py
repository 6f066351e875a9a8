"""Loads control's code with less CPU, since a control that sleeps is started by a client that waits."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Run a block of imports without garbage collections, and exempt what it loaded from later ones.

    Modules live until the end, so a collection finds nothing in them, but a tenth of the CPU would be its.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def load_fastapi() -> None:
    """Import FastAPI without building its models of OpenAPI, which takes 90 ms and only /docs needs.

    They are built when the document is made. Models that are defined later are not affected.
    """
    from pydantic import BaseModel

    BaseModel.model_config["defer_build"] = True
    try:
        import fastapi  # noqa: F401 - loaded for the modules that need it
    finally:
        del BaseModel.model_config["defer_build"]
