"""How the command says that a server does not answer."""

from __future__ import annotations

import httpx

from control.cli.connect import unanswered


def test_a_server_that_does_not_answer_is_named_without_what_a_url_may_hide() -> None:
    request = httpx.Request("GET", "http://user:secret@10.0.0.1:81/api/batches?ticket=secret")
    assert unanswered(httpx.ConnectError("", request=request)) == (
        "http://10.0.0.1:81 does not answer (ConnectError)"
    )
