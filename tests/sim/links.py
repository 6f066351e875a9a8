"""Share links: users who make, open and end them, and I12, what a link must and must not open.

A link opens its own batch and nothing else. It ends for good with its batch's retention or eviction, with its
revocation, with the next link of the batch and with the deletion of the batch; its tickets end with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, Protocol

from control.context import AppContext
from control.domain.errors import ControlError
from control.downloads.contents import zip_request
from control.http.guard import Guard
from control.routes import outputs, shares
from control.store import shares as stored
from control.store.rows import found
from control.store.tables import Batch
from tests.sim.protocol import SimWorld
from tests.sim.swarm import Mishap

EACH_S = (3.0, 25.0)  # from one act of a user to the next
LOOKED_AT = 2  # of the links of a batch, the newest


@dataclass
class Link:
    """A link as users know it."""

    batch_id: str
    token: str
    ticket: str = ""
    may_have_ended: bool = False
    has_ended: bool = False


class LinkJudge:
    """Knows of each link whether it has ended, may have, or has not."""

    def __init__(self, world: SimWorld) -> None:
        self._world = world
        self.links: list[Link] = []

    def about_to_end(self, batch_id: str) -> list[Link]:
        """Note that the links of a batch are about to be ended; return them."""
        mine = [link for link in self.links if link.batch_id == batch_id]
        for link in mine:
            link.may_have_ended = True
        return mine

    def ended(self, links: list[Link]) -> None:
        """Note that these links have ended."""
        for link in links:
            link.has_ended = link.may_have_ended = True

    def made(self, link: Link) -> None:
        """Note a new link, which ends those before it."""
        self.ended([one for one in self.links if one.batch_id == link.batch_id])
        self.links.append(link)

    def opened(self, link: Link, batch_id: str | None) -> None:
        """Check what a link, or its ticket, has opened: a batch or nothing."""
        oracle, world = self._world.oracle, self._world
        world.hits[Mishap.SHARE] += 1
        is_over = oracle.storage.is_over(link.batch_id) or link.batch_id in oracle.deleted_for_sure
        if batch_id is not None and (link.has_ended or is_over):
            oracle.fail(f"I12: a link of {link.batch_id} has ended and opens it")
        if batch_id not in (None, link.batch_id):
            oracle.fail(f"I12: a link of {link.batch_id} opens {batch_id}")
        is_kept = oracle.storage.may_be_fetched(link.batch_id) and link.batch_id not in oracle.deleted
        if batch_id is None and is_kept and not link.may_have_ended:
            oracle.fail(f"I12: a link of {link.batch_id} does not open it within its grace")


class Caller(Protocol):
    """Whoever repeats a call until control answers."""

    def ask(self, do: Callable[[AppContext], Any], then: Callable[[int, Any], None]) -> None:
        """Call control until it answers something other than 5xx."""


class Sharer:
    """A user who shares one batch, and whoever has the link."""

    def __init__(self, world: SimWorld, users: Caller, batch_id: str) -> None:
        self._world, self._users, self._batch_id = world, users, batch_id
        self._judge: LinkJudge = world.oracle.links
        self._dice = Random(f"{world.seed} links {batch_id}")

    def begin(self) -> None:
        """Act from now on, as long as users do."""
        wait_s = self._dice.uniform(*EACH_S)
        if self._world.t + wait_s < self._world.swarm.faults_s:
            self._world.after(wait_s, self._act)

    def _act(self) -> None:
        mine = [link for link in self._judge.links if link.batch_id == self._batch_id]
        act = self._dice.choice((self._open, self._open, self._open, self._share, self._end))
        if self._dice.random() < self._world.rates.get(Mishap.SHARE, 0.0):
            self._users.ask(self._share if not mine else act, lambda *_: None)
        self.begin()

    def _share(self, context: AppContext) -> None:
        self._judge.about_to_end(self._batch_id)
        token, _ = shares.make_link(context, self._batch_id)
        self._judge.made(Link(self._batch_id, token))

    def _end(self, context: AppContext) -> None:
        links = self._judge.about_to_end(self._batch_id)
        stored.unshare(context.store, self._batch_id)
        self._judge.ended(links)

    def _open(self, context: AppContext) -> None:
        """Open every link of the batch, whether it has ended or not, and what its ticket opens."""
        for link in [one for one in self._judge.links if one.batch_id == self._batch_id][-LOOKED_AT:]:
            try:
                shown = shares.open_link(context, link.token)
            except ControlError:
                self._judge.opened(link, None)
            else:
                self._judge.opened(link, shown.batch_id)
                link.ticket = shown.ticket
                self._must_be_its_own([each.output_id for one in shown.sources for each in one.outputs])
            if link.ticket:
                self._try_ticket(context, link)

    def _must_be_its_own(self, output_ids: list[str]) -> None:
        own = "SELECT id FROM output WHERE batch_id = ? AND state = 'ready'"
        rows = self._world.database.judge.execute(own, (self._batch_id,)).fetchall()
        if strange := set(output_ids) - {id_ for (id_,) in rows}:
            self._world.oracle.fail(f"I12: a link of {self._batch_id} shows {strange}")

    def _try_ticket(self, context: AppContext, link: Link) -> None:
        """Ask for its own batch and for another one with a ticket, as its holder may."""
        guard = Guard(context)
        ready = """SELECT batch_id, min(id) FROM output WHERE state = 'ready'
          GROUP BY batch_id ORDER BY batch_id <> ? LIMIT 2"""
        for batch_id, output_id in self._world.database.judge.execute(ready, (self._batch_id,)).fetchall():
            opened = [
                _opens(partial(outputs._ready, context, guard, output_id, None, link.ticket)),
                _opens(partial(_archive, context, guard, batch_id, link.ticket)),
            ]
            if opened[0] != opened[1]:
                self._world.oracle.fail(f"I12: of {batch_id} one of output and archive opens: {opened}")
            if opened[0] or batch_id == self._batch_id:
                self._judge.opened(link, batch_id if opened[0] else None)


def _archive(context: AppContext, guard: Guard, batch_id: str, ticket: str) -> None:
    guard.or_viewer(None, ticket, batch_id)
    with context.views.session() as session:
        zip_request(session, found(session, Batch, batch_id), now=context.clock(), is_shared=True)


def _opens(do: Callable[[], object]) -> bool:
    try:
        do()
    except ControlError:
        return False
    return True
