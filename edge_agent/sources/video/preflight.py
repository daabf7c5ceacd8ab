"""Asks an RTSP server over a socket of its own, before a decoder is tied up with a silent one.

`check` goes before the decoder, `reason` after one that failed. Each is at most one connection and
ASK_S seconds, name server included. No address, user or path is in any message.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Final

from edge_agent.core import rtsp
from edge_agent.core.errors import Rejected, SourceLost

ASK_S: Final = 2.0
MAX_UNANSWERED: Final = 4  # questions to a name server: a resolver can't be interrupted
PIECE_BYTES: Final = 4096
AT_NETWORK: Final = "check that it is on, its address in source.where, and the network"
AT_PORT: Final = "check the address and port in source.where, and that RTSP is on in the camera"
AT_NAME: Final = "correct the host in source.where, or give its number; check the name server"
NO_ROAD: Final = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN)
_free = threading.BoundedSemaphore(MAX_UNANSWERED)


def check(url: str, where: str) -> None:
    """That something at an rtsp: or rtsps: address speaks RTSP; of other addresses nothing.

    url: whole, with its password, which is not sent. where: how it is spoken of.

    Raises: SourceLost; Rejected for a port that is none.
    """
    place = rtsp.address(url)
    if place is None:
        if rtsp.has_wrong_port(url):
            raise Rejected(f"open {where}: expected a port of 1 to 65535", hint=AT_PORT)
        return
    with _words(where), _Asking(place) as asking:
        asking.ask("OPTIONS")  # any answer will do: some know no OPTIONS


def reason(url: str, where: str, otherwise: SourceLost) -> SourceLost:
    """Why a decoder got no video of an address that `check` passed, as the server says itself.

    otherwise: what is said of other addresses.
    """
    place = rtsp.address(url)
    if place is None:
        return otherwise
    try:
        with _words(where), _Asking(place) as asking:
            answer, tried = asking.ask("DESCRIBE"), False
            if answer.status == 401 and place.has_login:
                login = rtsp.login(answer.challenges, place, secrets.token_hex(8))
                if login:
                    answer, tried = asking.ask("DESCRIBE", login), True
    except SourceLost as lost:
        return lost
    what, hint = rtsp.described(answer, tried=tried, has_login=place.has_login)
    return SourceLost(f"open {where}: {what}", hint=hint)


class _Lost(Exception):
    """Words and a hint, without the place."""


@contextlib.contextmanager
def _words(where: str) -> Iterator[None]:
    """Raises: SourceLost."""
    try:
        yield
    except _Lost as lost:
        what, hint = lost.args
        raise SourceLost(f"open {where}: {what}", hint=hint) from None


class _Asking:
    """One connection and its deadline."""

    def __init__(self, place: rtsp.Address) -> None:
        self._place = place
        self._until_s = time.monotonic() + ASK_S
        self._sequence = 0
        self._socket: socket.socket | None = None

    def __enter__(self) -> _Asking:  # noqa: PYI034 - Self is 3.11
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            self._socket.close()

    def ask(self, method: rtsp.Method, login: str = "") -> rtsp.Reply:
        """Raises: _Lost."""
        try:
            if self._socket is None:
                self._socket = self._connected()
            self._sequence += 1
            self._socket.settimeout(self._left_s())
            self._socket.sendall(rtsp.request(method, self._place.of, self._sequence, login))
            got = self._answer(self._socket)
        except TimeoutError:
            raise _Lost(*_SILENT) from None
        except OSError as error:
            raise _hung_up(error) from None
        answer = rtsp.reply(got)
        if answer is None:
            raise _Lost(rtsp.not_rtsp(got), AT_PORT)
        return answer

    def _answer(self, wire: socket.socket) -> bytes:
        """At most rtsp.MAX_REPLY_BYTES and a piece. Raises: OSError, of which TimeoutError."""
        got = b""
        while not rtsp.is_whole(got):
            wire.settimeout(self._left_s())
            piece = wire.recv(PIECE_BYTES)
            got += piece
            if not piece:
                break
        return got

    def _left_s(self) -> float:
        """Raises: TimeoutError."""
        left_s = self._until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        return left_s

    def _connected(self) -> socket.socket:
        """Raises: _Lost, OSError."""
        try:
            found = _addresses(self._place.host, self._place.port, self._until_s)
            wire = self._first_that_answers(found)
        except TimeoutError:
            raise _Lost("it does not answer (is it off?)", AT_NETWORK) from None
        except OSError as error:
            raise _not_reached(error) from None
        return self._in_tls(wire) if self._place.is_tls else wire

    def _first_that_answers(self, found: list[str]) -> socket.socket:
        """Raises: OSError, of which TimeoutError."""
        for count, numbers in enumerate(found, start=1):
            wait_s = self._left_s() / (1 if count == len(found) else 2)
            try:
                return socket.create_connection((numbers, self._place.port), timeout=wait_s)
            except OSError:
                if count == len(found):
                    raise
        raise OSError(errno.EHOSTUNREACH, "no address")

    def _in_tls(self, wire: socket.socket) -> socket.socket:
        """Unverified: nothing is told here but that somebody asks. Raises: _Lost, OSError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            wire.settimeout(self._left_s())
            return context.wrap_socket(wire, server_hostname=None)
        except ssl.SSLError:
            wire.close()
            raise _Lost(
                "it does not speak TLS there", "rtsp instead of rtsps, or its port for TLS"
            ) from None
        except OSError:
            wire.close()
            raise


_SILENT: Final = (
    f"it takes the connection and answers nothing within {ASK_S:g} s",
    "restart the camera; check that its RTSP server is on, and the port",
)


def _not_reached(error: OSError) -> _Lost:
    if isinstance(error, socket.gaierror):
        if error.errno == socket.EAI_AGAIN:
            return _Lost("the name server does not answer", AT_NAME)
        return _Lost("nobody knows a host of this name", AT_NAME)
    if error.errno == errno.ECONNREFUSED:
        return _Lost("it is there, and nothing listens on this port", AT_PORT)
    if error.errno in NO_ROAD:
        return _Lost("no road leads there", AT_NETWORK)
    return _Lost(f"it can't be reached: {error.strerror or 'no answer'}", AT_NETWORK)


def _hung_up(error: OSError) -> _Lost:
    if error.errno in (errno.ECONNRESET, errno.EPIPE):
        return _Lost(rtsp.not_rtsp(b""), AT_PORT)
    return _Lost(f"the connection broke: {error.strerror or 'no answer'}", AT_NETWORK)


def _addresses(host: str, port: int, until_s: float) -> list[str]:
    """Of a host, as numbers. One that hangs is left behind, MAX_UNANSWERED of them at most.

    Raises: OSError, of which gaierror is one, and TimeoutError.
    """
    with contextlib.suppress(ValueError):
        return [str(ipaddress.ip_address(host))]
    found: list[list[str] | OSError] = []
    done = threading.Event()

    def ask() -> None:
        try:
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.append(list(dict.fromkeys(str(entry[4][0]) for entry in entries)))
        except OSError as error:
            found.append(error)
        except UnicodeError:  # a label that is too long, or empty
            found.append(socket.gaierror(socket.EAI_NONAME, "this is no name of a host"))
        finally:
            _free.release()
            done.set()

    if not _free.acquire(timeout=max(0.0, until_s - time.monotonic())):
        raise socket.gaierror(socket.EAI_AGAIN, "earlier questions are not answered")
    try:
        threading.Thread(target=ask, name="resolver", daemon=True).start()
    except RuntimeError:
        _free.release()
        raise OSError(errno.EAGAIN, "no thread can be started") from None
    if not done.wait(max(0.0, until_s - time.monotonic())):
        raise socket.gaierror(socket.EAI_AGAIN, "not in time")
    if isinstance(found[0], OSError):
        raise found[0]
    return found[0]
