"""What stands at an address that is no camera, and how soon that is told."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from edge_agent.core.errors import Rejected, SourceLost
from edge_agent.sources.video import preflight

Serve = Callable[[socket.socket], None]
OTHERWISE = SourceLost("open x: no video", hint="look")
MARGIN_S = 1.5  # of a machine that six people share


class Server:
    """Takes connections and does the same with each. count: how many came."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._stop = threading.Event()
        self._open: list[socket.socket] = []
        self.count = 0
        self.got = b""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._take)
        self._thread.start()

    def _take(self) -> None:
        while not self._stop.is_set():
            wire, _ = self._socket.accept()
            self.count += 1
            wire.settimeout(3.0)
            self._open.append(wire)
            with contextlib.suppress(OSError):
                self.got += wire.recv(4096)
                self._serve(wire)

    @property
    def where(self) -> str:
        return f"rtsp://nurse:s3cret@127.0.0.1:{self.port}/Mustermann"

    def close(self) -> None:
        self._stop.set()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            pass
        self._thread.join(5.0)
        for wire in (*self._open, self._socket):
            wire.close()


@pytest.fixture
def serving() -> Iterator[Callable[[Serve], Server]]:
    made: list[Server] = []

    def serve(what: Serve) -> Server:
        made.append(Server(what))
        return made[-1]

    yield serve
    for server in made:
        server.close()


def said(ask: Callable[[], object]) -> str:
    with pytest.raises(SourceLost) as lost:
        ask()
    text = str(lost.value)
    assert not any(word in text for word in ("s3cret", "nurse", "Mustermann", "127.0.0.1", "://"))
    assert lost.value.hint
    return lost.value.what


ANSWERS = {
    "answers nothing within 2 s": lambda _: None,
    "hangs up without an answer": lambda wire: wire.close(),
    "a web server answers there": lambda wire: wire.sendall(b"HTTP/1.1 400 Bad\r\n\r\n"),
    "what answers there is no RTSP": lambda wire: wire.sendall(b"SSH-2.0-OpenSSH_9.2\r\n"),
}


@pytest.mark.parametrize(("words", "serve"), ANSWERS.items())
def test_what_is_no_camera_is_told_within_two_seconds(
    words: str, serve: Serve, serving: Callable[[Serve], Server]
) -> None:
    """A decoder is silent for five and more, and says nothing at the end."""
    server = serving(serve)
    began_s = time.monotonic()
    assert words in said(lambda: preflight.check(server.where, "rtsp stream"))
    assert time.monotonic() - began_s < preflight.ASK_S + MARGIN_S
    assert server.count == 1
    assert server.got.startswith(b"OPTIONS rtsp://127.0.0.1")
    assert b"s3cret" not in server.got


def test_an_answer_that_drips_does_not_hold_it_up(serving: Callable[[Serve], Server]) -> None:
    def drip(wire: socket.socket) -> None:
        for piece in b"RTSP/1.0 200 OK\r\nX: ".ljust(60, b"y"):
            wire.sendall(bytes([piece]))
            time.sleep(0.06)

    server = serving(drip)
    began_s = time.monotonic()
    assert "answers nothing" in said(lambda: preflight.check(server.where, "rtsp stream"))
    assert time.monotonic() - began_s < preflight.ASK_S + MARGIN_S


def test_any_answer_of_rtsp_lets_the_decoder_try(serving: Callable[[Serve], Server]) -> None:
    for status in (b"200 OK", b"401 Unauthorized", b"501 Not Implemented"):
        server = serving(lambda wire, status=status: wire.sendall(  # type: ignore[misc]
            b"RTSP/1.0 " + status + b"\r\nCSeq: 1\r\n\r\n"))  # fmt: skip
        preflight.check(server.where, "rtsp stream")


def test_what_is_not_reached_is_told_apart() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for url, words in (
        (f"rtsp://127.0.0.1:{port}/x", "nothing listens on this port"),
        (f"rtsp://[::1]:{port}/x", "open rtsp stream: "),
        ("rtsp://no-such-camera.invalid/x", "open rtsp stream: "),
        (f"rtsp://{'a' * 70}.invalid/x", "nobody knows a host of this name"),
    ):
        assert words in said(lambda url=url: preflight.check(url, "rtsp stream"))  # type: ignore[misc]


@pytest.mark.parametrize("where", ["http://127.0.0.1:9/x", "udp://239.0.0.1:1", "clip.mp4"])
def test_other_addresses_are_left_to_the_decoder(where: str) -> None:
    preflight.check(where, "x")
    assert preflight.reason(where, "x", OTHERWISE) is OTHERWISE


def test_tls_where_there_is_none_is_told(serving: Callable[[Serve], Server]) -> None:
    server = serving(lambda wire: wire.sendall(b"RTSP/1.0 400 Bad Request\r\n\r\n"))
    where = server.where.replace("rtsp://", "rtsps://")
    assert "does not speak TLS" in said(lambda: preflight.check(where, "rtsps stream"))


def test_a_name_server_that_hangs_holds_up_nobody_for_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The C library's resolver can't be interrupted, so it is left behind."""
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait(20) and [])
    monkeypatch.setattr(preflight, "ASK_S", 0.2)
    began_s = time.monotonic()
    try:
        for _ in range(preflight.MAX_UNANSWERED + 2):
            words = said(lambda: preflight.check("rtsp://camera-1/x", "rtsp stream"))
            assert "the name server does not answer" in words
    finally:
        release.set()
    assert time.monotonic() - began_s < (preflight.MAX_UNANSWERED + 2) * 0.2 + MARGIN_S


@pytest.mark.parametrize("rest", ["tower:99999/1", "tower:0/1", "a:b@tower:70000"])
def test_a_port_that_is_none_is_told_as_that(rest: str) -> None:
    """It was asked for by the decoder, and "Invalid argument" was what came of it."""
    with pytest.raises(Rejected, match="expected a port of 1 to 65535") as refused:
        preflight.check(f"rtsp://{rest}", "rtsp stream")
    assert "tower" not in str(refused.value)
