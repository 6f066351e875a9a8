"""Which pages of other origins may call the API: exactly those that the settings name."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from control.settings import Settings

_SENT = ("Authorization", "Content-Type", "Idempotency-Key", "If-Range", "Last-Event-ID", "Range")
_READ = ("Accept-Ranges", "Content-Disposition", "Content-Range", "ETag", "Location", "Retry-After")


def allow_origins(app: FastAPI, settings: Settings) -> None:
    """Let pages of ALLOWED_ORIGINS call the API with a bearer token; no cookies, so none are allowed."""
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.allowed_origins),
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=list(_SENT),
            expose_headers=list(_READ),
        )
