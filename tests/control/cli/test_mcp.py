"""`refresher mcp` with the client of the official SDK, over stdin and stdout, against a served control."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx
from mcp import Client, StdioServerParameters
from sqlmodel import select

from control.store.tables import Delivery
from tests.support.clips import make_clip
from tests.support.maker import Maker

TOOLS = {"quote", "submit", "watch", "show", "list", "link", "cancel"}


def test_a_program_with_tools_quotes_submits_watches_lists_links_and_cancels(
    maker: Maker, ffmpeg: str, tmp_path: Path
) -> None:
    clip = make_clip(ffmpeg, tmp_path / "ad.mp4")
    (tmp_path / "notes.txt").write_text("no video")
    env = {
        "REFRESHER_URL": str(maker.http.base_url),
        "REFRESHER_TOKEN": maker.http.headers["Authorization"].removeprefix("Bearer "),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "eu-west-1",
    }
    server = StdioServerParameters(command=sys.executable, args=["-m", "control", "mcp"], env=env)

    async def talk() -> None:
        async with Client(server) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert set(tools) == TOOLS
            assert "costs money, at most `max_cost_usd`" in (tools["submit"].description or "")
            bound = tools["submit"].input_schema["properties"]["max_cost_usd"]["description"]
            assert "Without it the bound is twice the quote, and at least a cent." in bound
            await use(client)

    async def call(client: Client, tool: str, **arguments: Any) -> Any:
        result = await client.call_tool(tool, arguments)
        assert not result.is_error, result.content
        return result.structured_content

    async def refusal(client: Client, tool: str, **arguments: Any) -> str:
        result = await client.call_tool(tool, arguments)
        assert result.is_error
        return str(result.content[0])

    async def use(client: Client) -> None:
        quoted = await call(client, "quote", videos=[str(clip)], variations=2, without=["mirror"])
        assert (quoted["videos"], quoted["outputs"], quoted["fits"], quoted["estimated"]) == (
            1,
            2,
            True,
            False,
        )
        made = await call(
            client, "submit", videos=[str(clip)], variations=2, without=["mirror"], name="By tool"
        )
        (batch,) = made["batches"]
        stored = maker.show(batch["id"])
        assert (stored["name"], stored["without"], stored["progress"]["total"]) == ("By tool", ["mirror"], 2)
        assert made["max_cost_usd"] == quoted["max_cost_usd"] >= 2 * quoted["cost_usd"] > 0
        poor = await refusal(client, "submit", videos=[str(clip)], max_cost_usd=1e-9)
        assert "may cost at most $0.000000001" in poor
        same = {"videos": [str(clip)], "variations": 2, "name_template": "{source}"}
        for tool in ("quote", "submit"):
            assert "the same name: add {n}" in await refusal(client, tool, **same)
        assert "like s3://bucket/folder" in await refusal(client, "submit", videos=[str(clip)], to="bucket")
        sent = await call(client, "submit", videos=[str(clip)], variations=1, to="s3://bucket/x")
        shown = await call(client, "cancel", id_=sent["batches"][0]["id"])
        with maker.store.transaction() as tx:
            (url,) = tx.session.exec(select(Delivery.url).where(Delivery.batch_id == shown["id"]))
        assert url.startswith("https://s3.eu-west-1.amazonaws.com/bucket/x/ad/ad_var01.mp4?")
        assert "notes.txt: This is a text file" in await refusal(
            client, "submit", videos=[str(tmp_path / "notes.txt")]
        )
        assert "no file 'gone.mp4'" in await refusal(client, "quote", videos=["gone.mp4"])
        listed = (await call(client, "list", search="By tool"))["batches"]
        assert [each["id"] for each in listed] == [batch["id"]]
        watched = await call(client, "watch", id_=batch["id"], within_s=0)
        assert (watched["is_live"], len(watched["outputs"])) == (True, 2)
        assert (await call(client, "cancel", id_=batch["id"]))["status"] == "cancelled"
        assert "nothing to download" in await refusal(client, "link", id_=batch["id"])
        ready = maker.make(b"one", b"two")
        (output, _) = (await call(client, "show", id_=ready["batch_id"]))["outputs"]
        link = await call(client, "link", id_=ready["batch_id"], output_ids=[output["output_id"]])
        address = urlsplit(link["url"])
        zip_ = httpx.get(maker.http.base_url.join(f"{address.path}?{address.query}"))
        assert zip_.content.startswith(b"PK")
        assert "There is no such batch" in await refusal(client, "show", id_="bat_none")

    anyio.run(talk)
