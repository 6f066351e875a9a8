"""A sign-in and its token."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from control.views.schemas.base import Request, like


class Login(Request):
    """The shared password."""

    model_config = like({"password": "correct horse battery staple"})

    password: Annotated[str, Field(max_length=1024)]


class Token(BaseModel):
    """A bearer token and the time when it expires."""

    token: str
    expires_at: datetime
