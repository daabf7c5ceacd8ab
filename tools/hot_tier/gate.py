"""Who may speak for a node, and who may read what it sealed: keys in front of the desk.

    uplink-keys/  sign-1.pem seal-1.pem ...    private, 0600; the public half of all in hot-tier.pub
    nodes/        <node>.pub                   what `edge-agent uplink key` printed, a line a key

A node that is enrolled speaks signed or not at all: its records, its documents and above all its
probes, by which it declares records void. A node that is not is taken as it always was, unless
signatures are required of everybody.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from edge_agent.core import public_keys
from edge_agent.core.errors import Rejected
from edge_agent.core.wire import sealing
from edge_agent.core.wire.envelope import Envelope, need
from edge_agent.core.wire.outcome import Need
from edge_agent.core.wire.sealing import Opener, Signed, Signer
from edge_agent.links.road_keys import RoadVerifier
from edge_agent.stores.files import read_bounded

MAX_CACHED: Final = 4096
MAX_TOLD: Final = 64  # nodes among the problems
NODE: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
NOBODY: Final = RoadVerifier(())

Stamp = tuple[int, int, int]


class Unproven(Rejected):
    """An envelope that its node does not vouch for. count: where it is counted. need: what the
    node is told, where it may be our own side that lacks something.
    """

    def __init__(
        self, message: str, count: Literal["unsigned", "forged"], told: Need | None = None
    ) -> None:
        super().__init__(message)
        self.count, self.need = count, told


class Enrolled:
    """A folder of public keys. Looked at for each envelope: who is enrolled now counts now."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: OrderedDict[str, tuple[Stamp, RoadVerifier]] = OrderedDict()
        self.unreadable: dict[str, str] = {}

    def verifier(self, node: str) -> RoadVerifier | None:
        """None: the node is not enrolled. Without a key when its file can't be read: nothing of a
        node that was enrolled once is taken unsigned because of that.
        """
        path = self._folder / f"{node}.pub"
        try:
            facts = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            self._known.pop(node, None)
            self.unreadable.pop(node, None)
            return None
        except OSError as error:
            return self._fails(node, error.strerror or "an error")
        stamp = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
        known = self._known.get(node)
        if known is None or known[0] != stamp:
            return self._read(node, path, stamp)
        return known[1]

    def _read(self, node: str, path: Path, stamp: Stamp) -> RoadVerifier:
        try:
            content = read_bounded(path, public_keys.MAX_FILE_BYTES)
            found = RoadVerifier(public_keys.read(content, path.name).sign)
        except Rejected as error:
            return self._fails(node, error.what)
        except OSError as error:
            return self._fails(node, error.strerror or "an error")
        self.unreadable.pop(node, None)
        self._known[node] = (stamp, found)
        while len(self._known) > MAX_CACHED:
            self._known.popitem(last=False)
        return found

    def _fails(self, node: str, words: str) -> RoadVerifier:
        self._known.pop(node, None)
        if node in self.unreadable or len(self.unreadable) < MAX_TOLD:
            self.unreadable[node] = words
        return NOBODY


class Gate:
    """opener: for seals. nodes: who is enrolled. is_strict: nobody else is heard."""

    def __init__(
        self,
        opener: Opener | None = None,
        nodes: Enrolled | None = None,
        *,
        is_strict: bool = False,
    ) -> None:
        self._opener, self._nodes, self._is_strict = opener, nodes, is_strict
        self._silenced: OrderedDict[str, str] = OrderedDict()  # by node, why, as of its last word

    def admit(self, envelope: Envelope) -> Envelope | Need:
        """The envelope opened. `Need` when it was sealed for a key that is not here.

        Raises: Unproven; WireError.
        """
        self._check(envelope)
        return sealing.opened(envelope, self._opener)

    def _check(self, envelope: Envelope) -> None:
        node = envelope.node
        verifier = self._nodes.verifier(node) if self._nodes is not None else None
        if verifier is None and not self._is_strict:
            return
        said = sealing.verdict(envelope, verifier or NOBODY)
        if said is Signed.GOOD:
            self._silenced.pop(node, None)
            return
        what = f"take {envelope.kind.name} of {node}: expected it signed by that node, got it "
        if said is Signed.WRONG:
            raise Unproven(what + said.value, "forged")
        held = () if verifier is None else verifier.ids
        self._silenced[node] = "is not enrolled" if verifier is None else f"is {said.value}"
        while len(self._silenced) > MAX_TOLD:
            self._silenced.popitem(last=False)
        told = need(envelope, "key", tuple(key.hex() for key in held))
        raise Unproven(what + said.value, "unsigned", told)

    def problems(self, counts: Mapping[str, int]) -> list[dict[str, Any]]:
        """For the sheet. counts: of the desk."""
        found = [
            (
                "node-unproven",
                f"what comes in the name of {node} {why}; nothing of it is taken",
                "compare `edge-agent uplink key` on the device with its file among the nodes",
            )
            for node, why in list(self._silenced.items())
        ]
        unreadable = self._nodes.unreadable if self._nodes is not None else {}
        for node, words in list(unreadable.items()):
            fix = f"write {node}.pub anew: python -m tools.hot_tier trust-node"
            found.append(("enrolment-unreadable", f"the keys of {node}: {words}", fix))
        if counts.get("forged"):
            words = f"{counts['forged']} envelopes were not signed by the node that they name"
            found.append(("forged", words, "who reaches the broker and the Router?"))
        return [{"code": code, "what": what, "fix": fix} for code, what, fix in found]


class Keys(NamedTuple):
    """signer: of what goes down; None: it goes unsigned."""

    gate: Gate
    signer: Signer | None = None


OPEN: Final = Keys(Gate())
