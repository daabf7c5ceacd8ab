"""The agent's own papers: the status document for the hot tier, the twin for EdgeCore."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from edge_agent.core import twin
from edge_agent.core.edgecore import Ack, NeedSaid, Topics, TwinAnswer
from edge_agent.core.errors import Overloaded
from edge_agent.core.wire import documents, envelope
from edge_agent.core.wire.codec import Codecs
from edge_agent.core.wire.envelope import Envelope
from edge_agent.ports import Clock, LinkSession
from edge_agent.services.uplink.neighbours import Words

NAME: Final = "status"
EVERY_US: Final = 10_000_000
AGAIN_US: Final = 1_000_000  # after a need
ANSWER_US: Final = 2_000_000
MAX_ENVELOPE_BYTES: Final = 38_000  # 48 kB of payload: it rides beside records


class Document:
    """Latest wins, at most every ten seconds, only when it differs from what the receiver has."""

    def __init__(self, node: str, epoch: int, words: Words) -> None:
        self._sender = documents.Sender(node, NAME, epoch)
        self._words = words
        self._due_us = 0
        self._held = ""  # id of the newest that the receiver has
        self._last = ""  # of the newest that was made
        self._sent: tuple[str, int, int] | None = None  # the last: id, characters, when
        self.too_large = 0

    def is_due(self, now_us: int) -> bool:
        return now_us >= self._due_us

    def envelope(
        self, now_us: int, codecs: Codecs, encode: Callable[[Envelope], bytes] = envelope.encode
    ) -> bytes | None:
        """None: nothing new, or more than may be sent."""
        self._due_us = now_us + EVERY_US
        content = documents.canonical(self._words.document())
        self._last = envelope.short_id(content).hex()
        if self._last == self._held:
            return None
        try:
            body = encode(self._sender.encode(content, codecs))
        except Overloaded:
            self.too_large += 1
            return None
        if len(body) > MAX_ENVELOPE_BYTES:
            self.too_large += 1
            return None
        return body

    def sent(self, size: int, now_us: int) -> None:
        """The last one went, in a payload of so many characters of its own."""
        self._sent = (self._last, size, now_us)

    def overdue(self, now_us: int) -> tuple[int, int] | None:
        """Size, and when it went, of one that nobody has acknowledged in time; told once."""
        if self._sent is None or now_us - self._sent[2] < ANSWER_US:
            return None
        (_, size, sent_us), self._sent = self._sent, None
        return size, sent_us

    def heard(self, ack: Ack) -> tuple[int, int] | None:
        """Size, and when it went, of one that has arrived now."""
        ids = ack.docs.get(NAME)
        if ids is None:
            return None
        self._sender.acknowledge(ids)
        self._held = ids[-1] if ids else ""
        if self._sent is None or self._sent[0] not in ids:
            return None
        (_, size, sent_us), self._sent = self._sent, None
        return size, sent_us

    def needed(self, need: NeedSaid, now_us: int) -> None:
        self._sender.forget(need.have)
        self._held = ""
        self._due_us = min(self._due_us, now_us + AGAIN_US)


class Twin:
    """EdgeCore's device twin and state."""

    def __init__(self, *, topics: Topics, run: str, every_s: float, words: Words) -> None:
        self._topics, self._words, self._run = topics, words, run
        self._throttle = twin.TwinThrottle(run=run, every_us=round(every_s * 1e6))
        self._states = twin.StateThrottle(every_us=round(every_s * 1e6))

    @property
    def refused(self) -> str:
        return self._throttle.refused

    def renew(self) -> None:
        self._throttle.renew()
        self._states.renew()

    def answered(self, answer: TwinAnswer) -> None:
        self._throttle.answered(answer)

    async def tell(self, session: LinkSession, clock: Clock, most_bytes: int | None = None) -> None:
        """Publishes what is due, in payloads of at most so much. Raises: LinkDown."""
        now_us = clock.boot_us()
        stamp_ms = (now_us + (clock.utc_offset_us()[0] or 0)) // 1000
        update = None
        if self._throttle.is_open(now_us):  # the whole status is behind these values
            update = self._throttle.due(
                self._words.twin(), now_us, timestamp_ms=stamp_ms, most_bytes=most_bytes
            )
        if update is not None:
            await session.publish(self._topics.of_device("twin/update"), update.payload)
            if update.again:
                self._states.renew()
        state = self._words.state()
        if self._states.due(state, now_us):
            payload = twin.state(state, event_id=f"{self._run}-s", timestamp_ms=stamp_ms)
            await session.publish(self._topics.of_device("state/update"), payload)
