"""A refusal of control, as the commands see it."""

from __future__ import annotations


class ApiError(Exception):
    """Control refused the request. The message is from control and made for people."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code
