"""What lies behind the edge: EdgeHub with its road, and the hot tier as it decides and answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from edge_agent.core.lanes import Span
from edge_agent.core.logbook import LogKey
from edge_agent.core.probe import Probe
from edge_agent.core.ranges import Ranges, clip, count, intersect, union
from tools.edgecore.road import Downstream, Faults, Upload, Upstream
from tools.faulting.simulated.edge import NODE, Bundle
from tools.faulting.simulated.moments import Alarm, Moments
from tools.hot_tier import receiver
from tools.hot_tier.answers import Answers
from tools.hot_tier.desk import Asked, Outcome
from tools.hot_tier.receiver import Incoming, Log

ROAD_US: Final = 3_000  # each way
COMMIT_US: Final = 10_000  # of the hot tier
DOOR_TRIES: Final = 3  # of CloudCore, for a node that has no session
DOOR_PAUSE_US: Final = 1_000_000


class Hub:
    """EdgeCore between its broker and the cloud. arrive, down: called with what came through."""

    def __init__(
        self,
        moments: Moments,
        faults: Faults,
        arrive: Callable[[Bundle], None],
        down: Callable[[str, bytes], None],
    ) -> None:
        self._moments, self._arrive, self._down_to = moments, arrive, down
        self.upstream, self._downstream = Upstream(faults), Downstream(faults)
        self._bundles: dict[int, Bundle] = {}
        self._numbers = 0
        self._alarm = Alarm(moments, self._pump)

    def publish(self, bundle: Bundle) -> None:
        """From the agent; it has its confirmation already."""
        self._numbers += 1
        self._bundles[self._numbers] = bundle
        self.upstream.push(Upload("up", b"%d" % self._numbers))
        self._pump()

    def cut(self) -> None:
        self.upstream.cut()

    def silence(self) -> None:
        self.upstream.silence()
        self._pump()

    def restore(self) -> None:
        self.upstream.restore()
        self._pump()

    def send_down(self, topic: str, payload: bytes, tries: int = DOOR_TRIES) -> None:
        """CloudCore's door: tried again where the node has no session, then given up."""
        if not self.upstream.connected:
            if tries > 1:
                self._moments.after(
                    DOOR_PAUSE_US, lambda: self.send_down(topic, payload, tries - 1)
                )
        elif not self.upstream.is_silent:
            self._downstream.push(topic, payload)
            self._moments.after(ROAD_US, self._deliver)

    def _deliver(self) -> None:
        message = self._downstream.take()
        if message is not None:
            self._down_to(message.topic, message.payload)

    def _pump(self) -> None:
        now_s = self._moments.now_s
        while (upload := self.upstream.take(now_s)) is not None:
            bundle = self._bundles.pop(int(upload.payload))
            self._moments.after(ROAD_US, lambda bundle=bundle: self._arrive(bundle))  # type: ignore[misc]
        wait_s = self.upstream.wait_s(now_s)
        if wait_s is not None:
            self._alarm.set(self._moments.now_us + int(wait_s * 1e6) + 1)


class Tier:
    """The hot tier's decisions on rows that are ranges.

    say: called with what goes down. durable: called with the ranges that are new, once committed.
    doubled: records that became durable twice. again: that came again and were recognised.
    """

    def __init__(
        self,
        moments: Moments,
        say: Callable[[str, bytes], None],
        durable: Callable[[LogKey, Ranges], None],
    ) -> None:
        self._moments, self._say, self._durable = moments, say, durable
        self._answers = Answers("rx-1", n=0, dicts=())
        self.logs: dict[LogKey, Log] = {}
        self.rows: dict[LogKey, Ranges] = {}
        self.doubled = self.again = 0
        self._alarm = Alarm(moments, self._tell)

    @property
    def waiting(self) -> int:
        return sum(log.waiting for log in self.logs.values())

    def arrive(self, bundle: Bundle) -> None:
        self._moments.after(COMMIT_US, lambda: self._keep(bundle))

    def _keep(self, bundle: Bundle) -> None:
        outcome = Outcome(touched={NODE: {}})
        for span in bundle.spans:
            self._records(span, outcome)
        if bundle.probe is not None:
            self._probe(bundle.probe, outcome)
        self._answers.took(outcome)
        self._tell()

    def _log(self, key: LogKey) -> Log:
        return self.logs.get(key) or Log(id=len(self.logs) + 1, key=key)

    def _records(self, span: Span, outcome: Outcome) -> None:
        key, first, last = span
        log, rows = self._log(key), self.rows.get(key, ())
        here = clip(rows, first, last) if receiver.may_be_here(log, first, last) else ()
        verdicts = [Incoming.NEW] * (last - first + 1)
        for a, b in here:
            verdicts[a - first : b + 1 - first] = [Incoming.DUPLICATE] * (b - a + 1)
        log, said = receiver.taken(log, first, verdicts, ())
        self.doubled += count(intersect(rows, said.new))
        self.again += count(here)
        self.rows[key] = union(rows, said.new)
        self._stage(log, outcome)
        self._durable(key, said.new)

    def _probe(self, probe: Probe, outcome: Outcome) -> None:
        for offer in probe.logs:
            self._stage(receiver.offered(self._log(offer.key), offer)[0], outcome)
        keys = tuple(offer.key for offer in probe.logs)
        live = frozenset(offer.epoch for offer in probe.logs if not offer.closed)
        outcome.asked.append(
            Asked(carrier=NODE, node=NODE, nonce=probe.nonce, keys=keys, live=live)
        )

    def _stage(self, log: Log, outcome: Outcome) -> None:
        self.logs[log.key] = outcome.logs[log.key] = log
        outcome.touched[NODE][log.key] = None

    def _tell(self) -> None:
        for letter in self._answers.due(self._moments.now_us):
            self._say(f"edge-agent/{letter.node}/down/{letter.what}", letter.payload)
        wake_us = self._answers.wake_us()
        if wake_us is not None:
            self._alarm.set(max(wake_us, self._moments.now_us + 1))
