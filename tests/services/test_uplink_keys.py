"""Sealed and signed, both ways: nothing lost, nothing doubled, and nobody else is believed."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from edge_agent.config.structs import Config, UplinkConfig
from edge_agent.core import edgecore, public_keys, signed
from edge_agent.core import probe as asking
from edge_agent.core.edgecore import Ack, LogAck, Topics
from edge_agent.core.errors import LinkDenied
from edge_agent.core.frames import AnyRecord
from edge_agent.core.public_keys import PublicKeys
from edge_agent.core.wire import armour
from edge_agent.core.wire.codec import Codecs
from edge_agent.core.wire.envelope import Envelope, Kind
from edge_agent.core.wire.sealing import PLAIN, Protection, RoadKeys
from edge_agent.links.mqtt import MqttLink
from edge_agent.links.road_keys import RoadOpener, RoadSealer, RoadSigner, RoadVerifier
from edge_agent.services.uplink import uplink
from edge_agent.upward import keys_of
from tests.broker import Broker
from tests.broker import broker as broker  # noqa: PLC0414 - a fixture
from tests.broker import make_broker as make_broker  # noqa: PLC0414 - a fixture
from tests.services.uplinks import NODE, QUIET, Agent, running, spooling
from tools.edgecore_double import EdgeCoreDouble, Rule
from tools.hot_tier import HotTier, HttpRoad, MqttRoad
from tools.hot_tier.gate import Enrolled, Gate, Keys
from tools.hot_tier.roads import UP

pytestmark = pytest.mark.anyio
TOPICS = Topics.of("default", NODE)
RX = "0" * 32


class Site:
    """Both ends' keys. Each may be exchanged while the road is up."""

    def __init__(self, folder: Path) -> None:
        self.nodes = folder / "nodes"
        self.nodes.mkdir()
        self.sealing = [X25519PrivateKey.generate()]  # newest first
        self.signing = [RoadSigner(Ed25519PrivateKey.generate())]
        self.node = RoadSigner(Ed25519PrivateKey.generate())
        self.enrol(self.node)

    def enrol(self, *signers: RoadSigner, node: str = NODE) -> None:
        keys = PublicKeys(tuple(one.public for one in signers))
        beside = self.nodes / ".beside"
        beside.write_bytes(public_keys.write(keys, node))
        os.replace(beside, self.nodes / f"{node}.pub")  # noqa: PTH105

    def edge(self) -> RoadKeys:
        public = self.sealing[0].public_key().public_bytes_raw()
        pinned = RoadVerifier([one.public for one in self.signing])
        return RoadKeys(Protection(RoadSealer(public), self.node), pinned)

    def tier(self, *, is_strict: bool = True) -> Keys:
        gate = Gate(RoadOpener(self.sealing), Enrolled(self.nodes), is_strict=is_strict)
        return Keys(gate, self.signing[-1])  # the oldest, until all edges have the newer


@asynccontextmanager
async def site_behind_edgecore(
    broker: Broker, folder: Path, keys: Keys, heard: list[AnyRecord]
) -> AsyncIterator[tuple[EdgeCoreDouble, HotTier]]:
    road = HttpRoad(0)
    async with HotTier(folder / "db", road, heard=heard.extend, keys=keys) as tier:
        with anyio.fail_after(10):
            while not road.port:
                await anyio.sleep(0.01)
        rule = Rule(topic=TOPICS.up, url=f"http://127.0.0.1:{road.port}{UP}")
        async with EdgeCoreDouble(
            port=broker.port, node=NODE, rules=(rule,), devices=(f"default/{NODE}",), rest=True
        ) as edgecore:
            road.router = f"http://127.0.0.1:{edgecore.rest_port}"
            yield edgecore, tier


async def listened(broker: Broker, kept: list[bytes], topic: str) -> None:
    """Somebody in range, who keeps what goes by."""
    spy = MqttLink(msgspec.structs.replace(QUIET, port=broker.port, client_id="spy"), node="spy")
    async with spy.connect() as session:
        client = session._client
        await client.subscribe(topic)
        async for _, payload in session.messages():
            kept.append(payload)


async def test_live_backlog_documents_and_a_cut_arrive_once_sealed_and_signed(
    broker: Broker, tmp_path: Path
) -> None:
    site = Site(tmp_path)
    heard: list[AnyRecord] = []
    went: list[bytes] = []
    async with (
        spooling(tmp_path) as spool,
        site_behind_edgecore(broker, tmp_path, site.tier(), heard) as (edgecore, tier),
        anyio.create_task_group() as group,
    ):
        group.start_soon(listened, broker, went, TOPICS.up)
        agent = Agent(spool, broker.port, keys=site.edge)
        for _ in range(300):
            agent.say()
        async with running(agent):
            for turn in range(60):
                agent.say("endo")
                if turn == 20:
                    edgecore.cut()
                if turn == 30:
                    edgecore.restore()
                await anyio.sleep(1 / 30)
            await agent.drained()
            await agent.until(lambda: tier.sheet()["wire"]["documents"] > 0)
            document = await tier.document(NODE, "status")
        sheet, stats = tier.sheet(), agent.uplink.stats()
        group.cancel_scope.cancel()
    assert len({(r.stream, r.seq) for r in heard}) == len(heard) == 360
    assert sheet["total"]["waiting"] == 0
    assert (sheet["wire"]["unsigned"], sheet["wire"]["forged"]) == (0, 0)
    assert sheet["problems"] == []
    assert msgspec.json.decode(document) == {"node": NODE, "state": "ok"}
    assert (stats["refused"], agent.findings) == (0, [])
    seen = [one for payload in went for one in armour.unpack(payload).contents]
    kinds = {one.kind for one in seen if isinstance(one, Envelope)}
    assert kinds == {Kind.RECORDS, Kind.PROBE, Kind.DOCUMENT}
    assert all(isinstance(one, Envelope) and one.is_sealed and one.node == NODE for one in seen)


def forged(agent: Agent, **given: object) -> Ack:
    """Of everything that the spool holds, as if it were durable elsewhere."""
    acks = tuple(
        LogAck(
            node=log.key.node, stream=log.key.stream, klass=log.key.klass, epoch=log.key.epoch,
            upto=log.next - 1,
        )
        for log in agent.spool.logs()
    )  # fmt: skip
    fields = {"schema": 1, "node": NODE, "rx": RX, "n": 1 << 62, "echo": "", "acks": acks}
    return Ack(**{**fields, **given})  # type: ignore[arg-type]


async def test_a_forged_ack_in_range_deletes_nothing_where_keys_are_pinned(
    broker: Broker, tmp_path: Path
) -> None:
    site, other = Site(tmp_path), RoadSigner(Ed25519PrivateKey.generate())
    async with (
        spooling(tmp_path) as spool,
        EdgeCoreDouble(port=broker.port, node=NODE, rules=(), rest=True) as edgecore,
        anyio.create_task_group() as group,
    ):
        went: list[bytes] = []
        group.start_soon(listened, broker, went, TOPICS.up)
        agent = Agent(spool, broker.port, keys=lambda: RoadKeys(PLAIN, site.edge().verifier))
        async with running(agent):
            for _ in range(20):
                agent.say()
            await agent.until(lambda: bool(probes(went)))
            nonce = probes(went)[-1]
            plain = encode(forged(agent, echo=nonce))
            tier = site.signing[0]
            words = [
                plain,
                signed.sign("ack", plain, other, heard=nonce),
                signed.sign("ack", plain, tier, heard=nonce).replace(b'"n":', b'"n":1'),
                signed.sign("need", plain, tier, heard=nonce),
                signed.sign("ack", encode(forged(agent)), tier, heard="kept-from-before"),
                signed.sign("ack", encode(forged(agent)), tier, heard=""),
                signed.sign("ack", encode(forged(agent, node="cart-4")), tier, heard=nonce),
            ]
            for word in words:
                assert edgecore.send_down(TOPICS.down("ack"), word)
            await agent.until(lambda: agent.uplink.stats()["refused"] >= len(words))
            await anyio.sleep(0.2)
            assert spool.stats().acked == 0
            assert spool.stats().records == 20
            assert {finding.code for finding in agent.findings} == {"answers-untrusted"}
            nonce = probes(went)[-1]
            plain = encode(forged(agent, echo=nonce))
            right = signed.sign("ack", plain, tier, heard=nonce)
            assert edgecore.send_down(TOPICS.down("ack"), right)
            await agent.until(lambda: spool.stats().acked >= 20, 5)
        group.cancel_scope.cancel()


def encode(ack: Ack) -> bytes:
    return edgecore.encode(ack)


def probes(went: list[bytes]) -> list[str]:
    """Nonces of what went up unsealed."""
    found = [one for payload in went for one in armour.unpack(payload).contents]
    asked = [
        asking.decode(one, Codecs())
        for one in found
        if isinstance(one, Envelope) and one.kind is Kind.PROBE
    ]
    return [one.nonce for one in asked if isinstance(one, asking.Probe)]


async def test_without_the_receivers_key_records_stay_and_it_is_told(
    broker: Broker, tmp_path: Path
) -> None:
    site = Site(tmp_path)
    heard: list[AnyRecord] = []
    tier_keys = site.tier()
    site.sealing = [X25519PrivateKey.generate()]  # pinned here, not there
    async with (
        spooling(tmp_path) as spool,
        site_behind_edgecore(broker, tmp_path, tier_keys, heard) as (_, _tier),
    ):
        agent = Agent(spool, broker.port, keys=site.edge)
        async with running(agent):
            for _ in range(5):
                agent.say()
            await agent.until(lambda: bool(agent.findings))
            await anyio.sleep(0.5)
    assert {finding.code for finding in agent.findings} == {"receiver-lacks-key"}
    assert heard == []
    assert spool.stats().records == 5


async def test_every_key_is_rotated_while_records_flow_and_none_is_lost(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made, brought to the other side, retired; the hot tier restarts for each step of its own."""
    monkeypatch.setattr(uplink, "KEYS_EVERY_S", 0.05)
    site, heard = Site(tmp_path), list[AnyRecord]()
    old_node, new_node = site.node, RoadSigner(Ed25519PrivateKey.generate())
    both_seal = [X25519PrivateKey.generate(), *site.sealing]
    both_sign = [RoadSigner(Ed25519PrivateKey.generate()), *site.signing]
    edge_keys = [site.edge()]
    said = 0

    async def phase(agent: Agent, keys: Keys, *steps: Callable[[], None]) -> None:
        nonlocal said
        road = MqttRoad("127.0.0.1", broker.port)
        async with HotTier(tmp_path / "db", road, heard=heard.extend, keys=keys) as tier:
            for step in (lambda: None, *steps):
                step()
                for _ in range(10):
                    agent.say()
                    said += 1
                    await anyio.sleep(0.02)
            await agent.drained()
            sheet = tier.sheet()
        assert (sheet["wire"]["unsigned"], sheet["wire"]["forged"]) == (0, 0)

    def pin() -> None:
        site.sealing, site.signing = both_seal, both_sign
        edge_keys[0] = site.edge()

    def follow() -> None:
        site.enrol(new_node, old_node)
        site.node = new_node
        edge_keys[0] = site.edge()

    async with spooling(tmp_path) as spool:
        agent = Agent(spool, broker.port, keys=lambda: edge_keys[0])
        async with running(agent):
            await phase(agent, site.tier())
            gate = Gate(RoadOpener(both_seal), Enrolled(site.nodes), is_strict=True)
            await phase(agent, Keys(gate, both_sign[-1]), pin, follow)
            agent.say()  # sealed for the new key, on its way while the old one goes
            said += 1
            site.enrol(new_node)
            newest = Gate(RoadOpener(both_seal[:1]), Enrolled(site.nodes), is_strict=True)
            await phase(agent, Keys(newest, both_sign[0]))
        books = spool.stats()
    assert sorted(record.seq for record in heard) == list(range(1, said + 1))
    assert (books.acked, books.evicted, books.records) == (said, 0, 0)
    assert agent.findings == []


async def test_acks_that_were_kept_from_before_delete_nothing(
    broker: Broker, tmp_path: Path
) -> None:
    """Genuine, of an earlier run: the receiver may have lost its database since."""
    site, kept = Site(tmp_path), list[bytes]()
    async with spooling(tmp_path) as spool:
        first = Agent(spool, broker.port, keys=site.edge)
        for _ in range(30):
            first.say()
        async with anyio.create_task_group() as group:
            group.start_soon(listened, broker, kept, TOPICS.down("ack"))
            road = MqttRoad("127.0.0.1", broker.port)
            async with HotTier(tmp_path / "db", road, keys=site.tier()), running(first):
                await first.drained()
            group.cancel_scope.cancel()
        second = Agent(spool, broker.port, keys=site.edge)
        for _ in range(5):
            second.say()
        async with (
            running(second),
            MqttLink(msgspec.structs.replace(QUIET, port=broker.port), node="x").connect() as who,
        ):
            for payload in kept:
                await who.publish(TOPICS.down("ack"), payload)
            await second.until(lambda: second.uplink.stats()["refused"] >= len(kept) > 0)
        assert spool.stats().records == 5
        assert second.findings == []  # so may be what was said to the run before


async def test_a_node_key_is_made_once_and_a_missing_pin_keeps_the_road_closed(
    tmp_path: Path,
) -> None:
    pinned = tmp_path / "hot-tier.pub"
    options = UplinkConfig(sign=True, seal=True, hot_tier_keys=str(pinned))
    read = keys_of(Config(state_dir=str(tmp_path), uplink=options))
    assert read is not None
    with pytest.raises(LinkDenied, match="hot_tier_keys"):
        read()
    site = Site(tmp_path)
    seal = site.sealing[0].public_key().public_bytes_raw()
    pinned.write_bytes(public_keys.write(PublicKeys((site.signing[0].public,), (seal,)), "tier"))
    first, again = read(), read()
    assert first.protection.signer is not None
    assert again.protection.signer is not None
    assert first.protection.signer.id == again.protection.signer.id
    assert (tmp_path / "uplink.key").stat().st_mode & 0o777 == 0o600
    assert keys_of(Config(state_dir=str(tmp_path))) is None
