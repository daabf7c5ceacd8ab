"""What the house says of itself to the hot tier, and whom it tells what comes down.

The status document is the status without what is long and never changes; the twin is a dozen
values. Neither holds a finding, a path or a name of a person.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from edge_agent import __version__, logs
from edge_agent.config.structs import Config
from edge_agent.core.edgecore import Desired, Tuf
from edge_agent.core.errors import ConfigError, LinkDenied
from edge_agent.core.lineup import twin_words
from edge_agent.core.notes import Notes
from edge_agent.core.twin import STATES, DeviceState, Value
from edge_agent.core.wire.sealing import RoadKeys
from edge_agent.core.witness import Finding
from edge_agent.links.mqtt import MqttLink
from edge_agent.links.road_keys import NODE_KEY, new_signing, read_keys
from edge_agent.ports import Clock
from edge_agent.services.uplink import Uplink, Words
from edge_agent.stores.files import write_once
from edge_agent.stores.spool import DiskSpool
from edge_agent.views import Views

OF_STREAM: Final = (
    "state", "reason", "captured", "inferred", "dropped", "frozen", "fps_in", "fps_out",
    "latency_ms", "age_ms", "calibrated", "owner", "term", "model", "model_version",
)  # fmt: skip
OF_MODEL: Final = ("active", "previous", "rollout", "sha", "backend")
FIXES: Final = {
    "ack-refused": "somebody may answer in the hot tier's name: check the broker's access list",
    "receiver-replaced": "nothing to do, if the hot tier has a new database on purpose",
    "receivers-alternate": "two hot tiers answer: stop one; nothing is deleted until then",
    "lost-at-receiver": "the hot tier's database was replaced or restored: ask its operator",
    "receiver-too-old": "update the hot tier",
    "receiver-lacks-key": "enrol what `edge-agent uplink key` prints at the hot tier; is "
    "uplink.hot_tier_keys its newest file?",
    "answers-untrusted": "if the hot tier has new keys, put its file at uplink.hot_tier_keys; "
    "else somebody answers in its name",
}

log = logs.get("uplink")


class Upward:
    """on_down: who takes desired states and metadata; until somebody does, they are only logged."""

    def __init__(self, views: Views, notes: Notes, tell: Callable[[str, str], None]) -> None:
        self._views, self._notes, self._tell = views, notes, tell
        self.on_down: Callable[[Desired | Tuf], None] = _nobody

    def words(self) -> Words:
        return Words(
            document=self.document,
            twin=self.twin,
            state=self.state,
            on_event=self._came,
            on_finding=self._found,
        )

    def document(self) -> dict[str, Any]:
        status = self._views.status()
        status["streams"] = {n: _only(s, OF_STREAM) for n, s in status["streams"].items()}
        status["models"] = {n: _only(m, OF_MODEL) for n, m in status["models"].items()}
        return status

    def twin(self) -> Mapping[str, Value | None]:
        """By the names that EdgeCore knows (`core.twin.PROPERTIES`)."""
        status = self._views.status()
        streams, spool = status["streams"].values(), status["spool"]
        heat = (status["device"] or {}).get("temperature_celsius") or {}
        models = sorted(f"{name}@{model['active']}" for name, model in status["models"].items())
        return {
            "agent_version": __version__,
            "state": status["state"],
            "level": status["level"],
            "problems": len(status["problems"]),
            "streams": len(streams),
            "streams_ok": sum(stream["state"] == "ok" for stream in streams),
            "models": ",".join(models),
            **self._coming(),
            "spool_records": spool["records"],
            "spool_bytes": spool["bytes"],
            "spool_oldest_s": _rounded(spool["oldest_s"]),
            "temperature_celsius": _rounded(max(heat.values(), default=None)),
        }

    def _coming(self) -> dict[str, str | int | None]:
        down = self._views.down
        return twin_words(down.models(), down.desired()["serial"]) if down else {}

    def state(self) -> DeviceState:
        return STATES.get(self._views.state(), "unknown")

    def _came(self, event: Desired | Tuf) -> None:
        self.on_down(event)

    def _found(self, finding: Finding) -> None:
        self._notes.tell("", finding.code, finding.what, FIXES.get(finding.code, ""))
        self._tell(finding.code, finding.what)


def uplink_of(
    config: Config, disk: DiskSpool | None, *, clock: Clock, upward: Upward, notes: Notes
) -> Uplink | None:
    """None: there is none, or nothing durable to send from."""
    if not config.uplink.enabled or disk is None:
        return None
    try:
        link = MqttLink(config.uplink, node=config.node)
    except ConfigError as wrong:
        notes.tell("", "config", wrong.what, wrong.hint)
        return None
    uplink = Uplink(
        node=config.node, config=config.uplink, link=link, shelf=disk, clock=clock,
        words=upward.words(), keys=keys_of(config),
    )  # fmt: skip
    disk.voices.on_change(lambda _: uplink.on_change())
    return uplink


def keys_of(config: Config) -> Callable[[], RoadKeys] | None:
    """Reads the keys of the road; makes that of this node, where it is to sign and has none. None:
    nothing is sealed, signed or checked.
    """
    uplink, path = config.uplink, Path(config.state_dir) / NODE_KEY
    if not (uplink.seal or uplink.sign or uplink.hot_tier_keys is not None):
        return None

    def read() -> RoadKeys:
        if uplink.sign and not path.exists():
            try:
                write_once(path, new_signing())
            except OSError as error:
                words = error.strerror or "an error"
                raise LinkDenied(
                    f"make {path.name}: {words}", hint="is state_dir writable?"
                ) from None
        return read_keys(uplink, path)

    return read


def _nobody(event: Desired | Tuf) -> None:
    log.info("came down, and nobody takes it", kind=type(event).__name__)


def _only(fields: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: fields[name] for name in names if name in fields}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 1)
