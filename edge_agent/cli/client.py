"""The console API over its UNIX socket, as a client: find the socket, ask, read a bounded answer.

HTTP/1.1 is spoken by hand: `http.client` brings `ssl` and `email` along, 3.9 bare interpreter
starts against 1.6 for `socket`, and `status` has 5 in all. One request per connection; the
answer's body is framed by Content-Length, by chunks or by the end of the connection.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pwd
import re
import socket
import struct
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

from edge_agent.cli.exits import ERROR, NOT_RUNNING, REFUSED, CommandError
from edge_agent.core.errors import fault_of, raised_again
from edge_agent.core.sockets import SOCKET_NAME, STAND_IN, stand_ins

DEFAULT_CONFIG = "/etc/edge-agent/config.toml"
DEFAULT_RUNTIME_DIR = "/run/edge-agent"
DEFAULT_STATE_DIR = "/var/lib/edge-agent"
USER = "edge-agent"  # of the service
TIMEOUT_S = 5.0  # for each read; the daemon answers in milliseconds or is stuck
MAX_ANSWER_BYTES = 64 << 20  # a colour frame of 3840x2160 is 24 MiB
MAX_HEADERS = 100
MAX_LINE_BYTES = 1 << 20  # one record of a followed stream is at most 16 KiB
MAX_CONFIG_BYTES = 1 << 20
FORBIDDEN = 403
REFUSING = ("rejected", "bad-package", "config")  # a policy said no; all else may be tried later

_PEER = struct.Struct("3i")  # pid, uid, gid
_FOLDER_KEY = re.compile(r"""^\s*(state_dir|runtime_dir)\s*=\s*(["'])([^"']+)\2""")


def add_socket_option(parser: argparse.ArgumentParser) -> None:
    """Gives a command that talks to the daemon its `--socket`."""
    parser.add_argument(
        "--socket",
        metavar="PATH",
        default=None,
        help="the daemon's control socket (default: found by runtime and state directory)",
    )


def add_daemon_options(parser: argparse.ArgumentParser) -> None:
    """`--socket`, and `--config` for a daemon whose directories are not the usual ones."""
    add_socket_option(parser)
    parser.add_argument(
        "--config",
        metavar="FILE",
        default=None,
        help=f"the daemon's config, read for its directories only (default: {DEFAULT_CONFIG})",
    )


def connect(args: argparse.Namespace, *, timeout_s: float = TIMEOUT_S) -> Client:
    """A client for the daemon that `--socket` or `--config` name, or for the usual one."""
    config = getattr(args, "config", None)
    if config and not args.socket and not os.access(config, os.R_OK):
        raise CommandError(
            f"read {config}: no such file, or not yours to read",
            hint="it is asked for the daemon's directories: give the one that the daemon runs with",
        )
    paths = socket_paths(args.socket, config)
    return Client(paths, timeout_s=timeout_s)


def socket_paths(given: str | None, config: str | None = None) -> list[str]:
    """Where the control socket may be, best first."""
    if given:
        return [given]
    named = _folders(config or DEFAULT_CONFIG)
    folders = [named.get("runtime_dir", "")]
    folders += os.environ.get("RUNTIME_DIRECTORY", "").split(":")
    state_dir = named.get("state_dir", DEFAULT_STATE_DIR)
    if "state_dir" in named:
        folders.append(state_dir + "/run")
    if not config or state_dir == DEFAULT_STATE_DIR:  # one agent per folder: it is that one
        folders += [DEFAULT_RUNTIME_DIR, DEFAULT_STATE_DIR + "/run"]
    folders += filter(os.path.isdir, stand_ins(state_dir, os.environ))
    paths = [f"{folder}/{SOCKET_NAME}" for folder in folders if folder]
    return list(dict.fromkeys(paths))


def _tell_if_strange(connection: socket.socket, path: str) -> None:
    """Where an agent makes its socket that can't use its own folder, anybody may make one: who
    answers there is said, unless it is root, the service or whoever asks.
    """
    if not path.split("/")[-2].startswith(STAND_IN):
        return
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    _, uid, _ = _PEER.unpack(raw)
    known = {0, os.geteuid()}
    with contextlib.suppress(KeyError):
        known.add(pwd.getpwnam(USER).pw_uid)
    if uid not in known:
        with contextlib.suppress(KeyError):
            uid = pwd.getpwuid(uid).pw_name
        print(f"edge-agent: {path} is answered by user {uid}", file=sys.stderr)


def _folders(config: str) -> dict[str, str]:
    """The directories that a config names, without a TOML reader (Python 3.10 brings none)."""
    found: dict[str, str] = {}
    try:
        with open(config, encoding="utf-8", errors="replace") as file:
            for line in file.read(MAX_CONFIG_BYTES).splitlines():
                if line.lstrip().startswith("["):  # tables: the top level is over
                    break
                if match := _FOLDER_KEY.match(line):
                    found[match[1]] = match[3]
    except OSError:
        return found
    return found


class Client:
    """Asks the daemon. Every method raises CommandError with the exit code that fits."""

    def __init__(self, paths: list[str], *, timeout_s: float = TIMEOUT_S) -> None:
        self._paths = paths
        self._timeout_s = timeout_s

    def json(self, target: str) -> dict[str, Any]:
        """The JSON object at `target`."""
        return _document(self.get(target), target)

    def get(self, target: str) -> bytes:
        """The whole body at `target`, at most MAX_ANSWER_BYTES."""
        return self._whole(target)

    def post(self, target: str, content: bytes = b"") -> dict[str, Any]:
        """Has the daemon do it; the JSON object that it answers."""
        return _document(self._whole(target, content), target)

    def posted(self, target: str) -> Iterator[bytes]:
        """Has the daemon do it; what it answers as it comes, of any length."""
        with contextlib.closing(_Answer(self._open(), target, b"")) as answer:
            answer.start()
            yield from answer.parts()

    def _whole(self, target: str, content: bytes | None = None) -> bytes:
        with contextlib.closing(_Answer(self._open(), target, content)) as answer:
            answer.start()
            parts, size = [], 0
            for part in answer.parts():
                size += len(part)
                if size > MAX_ANSWER_BYTES:
                    raise CommandError(
                        f"read {target}: expected at most {MAX_ANSWER_BYTES} bytes, got more"
                    )
                parts.append(part)
            return b"".join(parts)

    def lines(self, target: str, *, timeout_s: float | None = None) -> Iterator[bytes]:
        """The lines of an endless body as they come. timeout_s: silence allowed, None: any."""
        with contextlib.closing(_Answer(self._open(), target)) as answer:
            answer.start()
            answer.allow_silence(timeout_s)
            rest = b""
            for part in answer.parts():
                *whole, rest = (rest + part).split(b"\n")
                yield from (line for line in whole if line.strip())
                if len(rest) > MAX_LINE_BYTES:
                    raise CommandError(f"read {target}: a line exceeds {MAX_LINE_BYTES} bytes")
            if rest.strip():
                yield rest

    def _open(self) -> socket.socket:
        refused = ""
        for path in self._paths:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(self._timeout_s)
            try:
                connection.connect(path)
            except PermissionError:
                connection.close()
                refused = refused or path
            except OSError:  # none there, or a stale one that nobody listens on
                connection.close()
            else:
                _tell_if_strange(connection, path)
                return connection
        raise _no_daemon(self._paths, refused)


def _document(body: bytes, target: str) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise CommandError(
            f"read {target}: expected a JSON object, got {body[:40]!r}",
            hint="is the daemon of another version? compare: edge-agent version",
        )
    return document


def _no_daemon(paths: list[str], refused: str) -> CommandError:
    if refused:
        return CommandError(
            f"open {refused}: permission denied",
            hint="sudo usermod -aG edge-agent $USER, then log in again; or use sudo",
            code=REFUSED,
        )
    return CommandError(
        "no daemon answers: edge-agent is not running",
        hint="start it: sudo systemctl start edge-agent, or edge-agent run --config FILE; "
        f"looked at {', '.join(paths)}",
        code=NOT_RUNNING,
    )


class _Answer:
    """One request and its answer: `start`, then the body by `parts`."""

    def __init__(
        self, connection: socket.socket, target: str, content: bytes | None = None
    ) -> None:
        """content: None asks, bytes are posted."""
        self._connection = connection
        self._target = target
        self._content = content
        self._file: BinaryIO = connection.makefile("rb")
        self._headers: dict[str, str] = {}

    def start(self) -> None:
        """Sends the request and reads the head."""
        verb = "GET" if self._content is None else "POST"
        head = f"{verb} {self._target} HTTP/1.1\r\nHost: edge-agent\r\nConnection: close\r\n"
        content = self._content or b""
        size = "" if self._content is None else f"Content-Length: {len(content)}\r\n"
        try:
            with contextlib.suppress(BrokenPipeError):  # refused before it was read: listen
                self._connection.sendall(f"{head}{size}\r\n".encode("ascii") + content)
            status = self._read_head()
            if status != 200:
                raise self._http_error(status)
        except OSError as error:
            raise self._broken(error) from error

    def allow_silence(self, timeout_s: float | None) -> None:
        self._connection.settimeout(timeout_s)

    def parts(self) -> Iterator[bytes]:
        """The body, as it comes."""
        try:
            if self._headers.get("transfer-encoding", "").lower() == "chunked":
                yield from self._chunks()
            elif "content-length" in self._headers:
                yield self._exactly(int(self._headers["content-length"]))
            else:
                while part := self._file.read1(1 << 16):  # type: ignore[attr-defined]
                    yield part
        except (OSError, ValueError) as error:
            raise self._broken(error) from error

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self._file.readline(1024).split(b";")[0], 16):
            yield self._exactly(size)
            self._file.readline(8)

    def _exactly(self, size: int) -> bytes:
        if not 0 <= size <= MAX_ANSWER_BYTES:
            raise ValueError(f"expected at most {MAX_ANSWER_BYTES} bytes, got {size}")
        body = self._file.read(size)
        if len(body) < size:
            raise ValueError(f"expected {size} bytes, got {len(body)}")
        return body

    def _read_head(self) -> int:
        words = self._file.readline(1024).split()
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
            raise CommandError(f"read {self._target}: expected HTTP, got {b' '.join(words)[:40]!r}")
        for _ in range(MAX_HEADERS):
            line = self._file.readline(1 << 14).strip()
            if not line:
                break
            name, _, value = line.decode("latin-1").partition(":")
            self._headers[name.strip().lower()] = value.strip()
        return int(words[1])

    def _http_error(self, status: int) -> CommandError:
        body = b"".join(self.parts())[: 1 << 16]
        try:
            document = json.loads(body)
        except ValueError:
            document = {}
        if not isinstance(document, dict) or "error" not in document:
            text = body[:200].decode("utf-8", "replace").strip()
            document = {"error": f"{self._target}: the daemon answered {status} {text}".strip()}
        words, hint = str(document["error"]), str(document.get("hint") or "")
        said = str(document.get("fault") or ("rejected" if status == FORBIDDEN else ""))
        fault = fault_of(raised_again(said, words, hint))  # a word that is not known: "failed"
        code = REFUSED if status == FORBIDDEN and fault in REFUSING else ERROR
        return CommandError(words, hint=hint, code=code, fault=fault)

    def _broken(self, error: Exception) -> CommandError:
        return CommandError(
            f"read {self._target}: the daemon broke off: {str(error) or type(error).__name__}",
            hint="is it stopping or stuck? journalctl -u edge-agent -n 50",
        )

    def close(self) -> None:
        self._file.close()
        self._connection.close()
