"""The control socket: verbs in, answers and words out.

The messages are drawn in `edge_agent.orders`. End of file means that the agent is gone: everything
stops at once.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from edge_agent.core.bytewise import packed, unpacked
from edge_agent.core.errors import (
    Damaged,
    EdgeAgentError,
    Overloaded,
    Rejected,
    fault_of,
    of_system,
)
from edge_agent.core.frames import Calibration
from edge_agent.core.notes import STICKY
from edge_agent.inference import realtime
from edge_agent.inference.runtime import Runtime
from edge_agent.inference.seats import Loaded, Run
from edge_agent.inference.stream import Stream
from edge_agent.orders import LENGTH, MAX_FDS, MAX_MESSAGE_BYTES, ModelRef, Request

PROBLEM_EVERY_S = 1.0
MAX_PROBLEM_KEYS = 256


class Wire:
    """Both directions of the socket; sending is safe from any thread."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sending = threading.Lock()
        self._fds: deque[int] = deque()
        self._buffer = bytearray()

    def send(self, words: dict[str, Any]) -> None:
        """A gone agent is noticed by the reader; here it is no error."""
        body = packed(words)
        try:
            with self._sending:
                self._sock.sendall(LENGTH.pack(len(body)) + body)
        except OSError:
            return

    def receive(self) -> Request | None:
        """Blocks for the next request; None at end of file.

        Raises: Rejected when the other side does not speak this protocol.
        """
        while True:
            request = self._parse()
            if request is not None:
                return request
            try:
                chunk, fds, _, _ = socket.recv_fds(self._sock, 1 << 16, MAX_FDS)
            except OSError:
                return None
            self._fds.extend(fds)
            if not chunk:
                return None
            self._buffer += chunk

    def _parse(self) -> Request | None:
        if len(self._buffer) < LENGTH.size:
            return None
        (length,) = LENGTH.unpack_from(self._buffer)
        if length > MAX_MESSAGE_BYTES:
            raise Rejected(f"control message of {length} B, expected <= {MAX_MESSAGE_BYTES} B")
        if len(self._buffer) < LENGTH.size + length:
            return None
        body = bytes(self._buffer[LENGTH.size : LENGTH.size + length])
        del self._buffer[: LENGTH.size + length]
        try:
            return unpacked(body, Request)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Rejected(f"control message: {error}", hint="agent and child differ") from error

    def take_fd(self) -> int:
        """The next descriptor that came beside a message."""
        return self._fds.popleft()


class Words:
    """What this side says unasked; repeated problems are held back to one a second each."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._last: dict[tuple[str, str], float] = {}

    def facts(self, stream: Stream) -> None:
        facts = stream.facts
        if facts is not None:
            body = msgspec.to_builtins(facts)
            self._wire.send({"event": "facts", "stream": stream.name, "facts": body})

    def calibration(self, stream: str, calibration: Calibration) -> None:
        body = msgspec.to_builtins(calibration)
        self._wire.send({"event": "calibration", "stream": stream, "calibration": body})

    def problem(self, stream: str, code: str, what: str, fix: str) -> None:
        key, now = (stream, code), time.monotonic()
        if code not in STICKY and now - self._last.get(key, -PROBLEM_EVERY_S) < PROBLEM_EVERY_S:
            return  # what keeps a stream from starting is said once, so it is said
        if len(self._last) >= MAX_PROBLEM_KEYS:
            self._last.clear()
        self._last[key] = now
        self._wire.send(
            {"event": "problem", "stream": stream, "code": code, "what": what, "fix": fix}
        )

    def over(self, stream: str, code: str) -> None:
        """A problem that stands until this is told."""
        self._wire.send({"event": "over", "stream": stream, "code": code})

    def model(self, stream: str, ref: ModelRef, loaded: Loaded | EdgeAgentError) -> None:
        """Of a package that is live and not on trial: it may run, or why it can't be used.

        intact: it was read as it was ordered.
        """
        if ref.trial:
            return  # whoever tries it out judges it
        wrong = loaded if isinstance(loaded, EdgeAgentError) else None
        self._wire.send({
            "event": "model", "stream": stream, "model": ref.name, "folder": ref.folder,
            "sha": ref.sha, "pinned": ref.pinned,
            "golden": isinstance(loaded, Loaded) and loaded.is_proven,
            "intact": not isinstance(loaded, Damaged),
            "what": wrong.what if wrong else "", "fix": wrong.hint if wrong else "",
        })  # fmt: skip

    def stats(self, run: Run) -> None:
        count = run.count
        self._wire.send({
            "event": "model_stats", "stream": run.stream, "model": run.name,
            "version": run.live.loaded.manifest.version, "frames": count.frames,
            "findings": count.findings, "scores": list(count.scores),
            "input_mean": round(count.mean, 2), "input_sd": round(count.sd, 2),
        })  # fmt: skip


class Verbs:
    """One table: the verbs and what they do."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    def do(self, request: Request, wire: Wire) -> dict[str, Any]:
        """Raises: Rejected, ConfigError."""
        models = self.runtime.models
        verbs: dict[str, Callable[[Request], dict[str, Any] | None]] = {
            "configure": lambda r: self._configure(r, wire),
            "load": lambda r: models.load(r.model, r.folder, r.sha),
            "shadow": lambda r: {"counts": models.shadow(r.model, r.sha, r.every)},
            "unload": lambda r: models.unload(r.model, r.sha),
            "swap": lambda r: models.swap(r.model, r.sha, trial=r.trial),
            "commit": lambda r: models.commit(r.model),
            "rollback": lambda r: {"streams": models.roll_back(r.model)},
            "figures": lambda r: {"counts": models.figures(r.model)},
            "level": lambda r: self.runtime.level(r.level, thermal=r.thermal),
            "stop": lambda _: self.runtime.stop(),
        }
        if request.verb not in verbs:
            raise Rejected(f"control verb {request.verb!r}, expected one of {sorted(verbs)}")
        return verbs[request.verb](request) or {}

    def _configure(self, request: Request, wire: Wire) -> dict[str, Any]:
        fds = {fresh.name: wire.take_fd() for fresh in request.fresh}
        before = {fresh.name: fresh.captured for fresh in request.fresh}
        try:
            self.runtime.configure(request.streams, fds, before)
        finally:
            for fd in fds.values():
                os.close(fd)
        return {"streams": len(request.streams)}


def serve(wire: Wire, verbs: Verbs) -> None:
    """Until `stop` or end of file. `load` runs beside the others, so that it never delays them."""
    while True:
        request = wire.receive()
        if request is None:
            verbs.runtime.stop()
            return
        if request.verb == "load":
            threading.Thread(
                target=load_beside, args=(wire, verbs, request), name="loader", daemon=True
            ).start()
            continue
        answer(wire, verbs, request)
        if request.verb == "stop":
            return


def load_beside(wire: Wire, verbs: Verbs, request: Request) -> None:
    if verbs.runtime.realtime_wanted:
        realtime.go_beside()
    else:
        realtime.go_background(realtime_wanted=False)
    answer(wire, verbs, request)


def answer(wire: Wire, verbs: Verbs, request: Request) -> None:
    try:
        wire.send({"re": request.id, "ok": verbs.do(request, wire)})
    except EdgeAgentError as wrong:
        wire.send(refusal(request, wrong))
    except OSError as disk:  # a file of a package, read while it is loaded
        wire.send(refusal(request, of_system(request.verb, disk)))
    except MemoryError:
        short = Overloaded(f"{request.verb}: out of memory", hint="stop what else runs here")
        wire.send(refusal(request, short))


def refusal(request: Request, wrong: EdgeAgentError) -> dict[str, Any]:
    """An answer that keeps the class of the error."""
    return {"re": request.id, "error": wrong.what, "hint": wrong.hint, "fault": fault_of(wrong)}
