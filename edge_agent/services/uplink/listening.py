"""The way down: what came is read, judged by the outbox, and told to whom it concerns."""

from __future__ import annotations

from typing import Final

from edge_agent import logs
from edge_agent.core import edgecore, signed
from edge_agent.core.edgecore import Ack, Desired, NeedSaid, StateAnswer, Topics, Tuf, TwinAnswer
from edge_agent.core.errors import Damaged, Overloaded, Rejected, Untrusted
from edge_agent.core.logbook import Ack as Step
from edge_agent.ports import LinkSession
from edge_agent.services.uplink.desk import Desk

SIGNED: Final = ("ack", "need")  # of all else nothing is believed that TUF has not signed
TOLD_US: Final = 5_000_000

log = logs.get("uplink")


class Stale(Rejected):
    """Signed, and too old to say what the receiver holds now."""


class Listening:
    """`listen` runs for as long as a connection lasts."""

    def __init__(self, desk: Desk, topics: Topics) -> None:
        self._desk, self._outbox, self._topics = desk, desk.outbox, topics
        self._told_us = -TOLD_US

    async def listen(self, session: LinkSession) -> None:
        async for topic, payload in session.messages():
            try:
                self._check(topic, payload)
                said = edgecore.read(self._topics, topic, payload)
            except Untrusted as wrong:
                self._distrust(wrong)
                continue
            except Stale as wrong:  # for the process before this one; or somebody kept it
                self._desk.counts["refused"] += 1
                self._outbox.sign_of_life(self._desk.now_us())
                self._desk.news.set()
                log.info("refused", error=wrong.what)
                continue
            except Rejected as wrong:
                self._desk.counts["refused"] += 1
                log.warning("refused", error=wrong.what)
                continue
            await self._take(said)

    def _check(self, topic: str, payload: bytes) -> None:
        """Where keys of the hot tier are pinned: its signature, and that no ack is an old one. An
        old need costs a resend; and a receiver that cannot read our questions can name none.

        Raises: Untrusted; Stale.
        """
        verifier = self._desk.keys.verifier
        what = next((one for one in SIGNED if topic == self._topics.down(one)), None)
        if verifier is None or what is None:
            return
        if len(payload) > edgecore.MAX_DOWN_BYTES:
            return  # refused for that
        heard = signed.check(what, payload, verifier)
        if what == "ack" and not self._outbox.witness.is_fresh(heard):
            raise Stale(f"read down/{what}: expected an answer to a question of late, got none")

    def _distrust(self, wrong: Untrusted) -> None:
        """Nothing of it is used; what waits, waits on."""
        self._desk.counts["refused"] += 1
        now_us = self._desk.now_us()
        if now_us - self._told_us >= TOLD_US:
            self._told_us = now_us
            self._outbox.witness.find("answers-untrusted", wrong.what)
            self._desk.look()

    async def _take(self, said: edgecore.Event) -> None:
        if isinstance(said, Ack):
            await self._heard(said)
        elif isinstance(said, NeedSaid):
            self._needed(said)
        elif isinstance(said, Desired | Tuf):
            self._outbox.sign_of_life(self._desk.now_us())
            self._desk.news.set()
            self._desk.rooms.words.on_event(said)
        elif isinstance(said, TwinAnswer):
            self._desk.twin.answered(said)
        else:
            assert isinstance(said, StateAnswer)

    async def _heard(self, ack: Ack) -> None:
        now_us = self._desk.now_us()
        self._desk.changed()
        self._desk.look()  # what was evicted or committed meanwhile counts
        heard = self._outbox.heard(ack, now_us)
        self._desk.news.set()
        if not heard.is_trusted:
            return
        self._desk.last_ack_us = now_us
        self._desk.dicts, self._desk.codings = ack.can.dicts, ack.can.codings
        paper = self._desk.document.heard(ack)
        if paper is not None:
            self._outbox.size.arrived(*paper, now_us)
        for flight in heard.arrived:
            if flight.live_us is not None:
                self._desk.latency_us.add(now_us - flight.live_us)
        self._desk.apply(heard.apply)
        try:
            if heard.forfeit:
                await self._desk.rooms.shelf.backlog.forfeit(self._whole(heard.forfeit))
            if heard.forget:
                await self._desk.rooms.shelf.backlog.forget(heard.forget)
        except (Damaged, Overloaded) as trouble:
            log.warning("the spool's books could not be changed", error=trouble.what)
        self._desk.changed()

    def _whole(self, forfeit: tuple[Step, ...]) -> list[Step]:
        """With a word for each log: to the spool, one that is not named holds nothing."""
        named = {step.key: step for step in forfeit}
        return [
            named.get(one.key, Step(one.key, one.next - 1)) for one in self._desk.rooms.shelf.logs()
        ]

    def _needed(self, need: NeedSaid) -> None:
        now_us = self._desk.now_us()
        if need.kind == "document":
            self._desk.document.needed(need, now_us)
            return
        if self._outbox.needed(need, now_us) and need.why == "dict":
            self._desk.dicts = need.have
        self._desk.news.set()
