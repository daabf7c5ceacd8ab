from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from edge_agent.core.errors import ConfigError, LinkDown
from edge_agent.core.trust import Refused
from edge_agent.links.fetch import FolderSource, HttpSource, NotHere, Pace, Source, Sources
from tests.links.authority import Authority
from tools.hot_tier.serve import serving

BODY = bytes(range(256)) * 1024
FILE = "targets/a/b.eam"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "targets" / "a").mkdir(parents=True)
    (folder / FILE).write_bytes(BODY)
    return folder


def read(source: Source, path: str = FILE, *, offset: int = 0, max_bytes: int = 1 << 20) -> bytes:
    return b"".join(source.open(path, offset=offset, max_bytes=max_bytes))


@contextmanager
def answering(reply: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[HttpSource]:
    """A server that answers each GET so."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            reply(self)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield HttpSource(f"http://127.0.0.1:{server.server_address[1]}", wait_s=2.0)
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("offset", "size"), [(0, 1 << 20), (0, 10), (70_000, 70_000), (5, 1)])
def test_a_part_of_a_file_is_the_same_over_every_road(
    repository: Path, offset: int, size: int
) -> None:
    expected = BODY[offset : offset + size]
    assert read(FolderSource(repository), offset=offset, max_bytes=size) == expected
    with serving(repository) as server:
        assert read(HttpSource(server.url), offset=offset, max_bytes=size) == expected


def test_beyond_the_end_there_is_nothing(repository: Path) -> None:
    end = len(BODY)
    assert read(FolderSource(repository), offset=end, max_bytes=5) == b""
    with serving(repository) as server:
        assert read(HttpSource(server.url), offset=end, max_bytes=5) == b""
        assert read(HttpSource(server.url), offset=end - 2, max_bytes=5) == BODY[-2:]


def test_what_is_not_there_is_told_apart_from_a_road_that_is_down(repository: Path) -> None:
    with pytest.raises(NotHere):
        read(FolderSource(repository), "targets/none")
    with serving(repository) as server:
        source = HttpSource(server.url)
        with pytest.raises(NotHere, match="got 404"):
            read(source, "targets/none")
        with pytest.raises(NotHere):
            read(source, "keys/root-1.pem")
    with pytest.raises(LinkDown, match="refused") as raised:
        read(source)
    assert not isinstance(raised.value, NotHere)


def test_a_server_that_ignores_ranges_is_read_up_to_there() -> None:
    def whole(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(BODY)))
        handler.end_headers()
        handler.wfile.write(BODY)

    with answering(whole) as source:
        assert read(source, offset=100_000, max_bytes=10) == BODY[100_000:100_010]


def test_bytes_from_elsewhere_than_asked_are_not_taken() -> None:
    def wrong(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(206)
        handler.send_header("Content-Range", "bytes 0-9/100")
        handler.send_header("Content-Length", "10")
        handler.end_headers()
        handler.wfile.write(bytes(10))

    with answering(wrong) as source, pytest.raises(LinkDown, match="expected bytes from 50"):
        read(source, offset=50)


def test_an_answer_that_breaks_off_says_so_after_what_came() -> None:
    def half(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(bytes(400))

    got = bytearray()
    with answering(half) as source, pytest.raises(LinkDown, match=r"broke off|IncompleteRead"):
        for chunk in source.open(FILE, offset=0, max_bytes=1000):
            got += chunk
    assert len(got) == 400


def test_a_redirect_is_not_followed() -> None:
    def away(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", "http://127.0.0.1:1/")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with answering(away) as source, pytest.raises(LinkDown, match="got 302"):
        read(source)


def test_a_server_that_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        source = HttpSource(f"http://127.0.0.1:{silent.getsockname()[1]}", wait_s=0.2)
        with pytest.raises(LinkDown, match="timed out"):
            read(source)


def test_who_drips_is_given_up_and_who_is_only_slow_is_not() -> None:
    slow = Pace("x", "there")
    for _ in range(100):
        slow.took(5000, 4.0)
    dripping = Pace("x", "there")
    with pytest.raises(LinkDown, match="expected 1000 B/s"):
        for _ in range(100):
            dripping.took(1, 4.0)


def test_tls_asks_for_the_authority_of_the_file(repository: Path, tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    certificate, key = ours.sign("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(repository) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        url = server.url.replace("http:", "https:")
        assert read(HttpSource(url, ca_file=str(ours.certificate))) == BODY
        with pytest.raises(LinkDown, match=r"CERTIFICATE_VERIFY_FAILED|certificate verify"):
            read(HttpSource(url, ca_file=str(theirs.certificate)))
    with pytest.raises(LinkDown, match=r"read .*none.pem"):
        HttpSource(url, ca_file=str(tmp_path / "none.pem"))


@pytest.mark.parametrize("url", ["ftp://x/y", "http://", "repository", "http://x/?a=b"])
def test_an_address_that_is_none_is_the_operators(url: str) -> None:
    with pytest.raises(ConfigError, match="expected http://HOST"):
        HttpSource(url)


def test_no_password_of_an_address_is_ever_shown() -> None:
    assert "secret" not in HttpSource("http://user:secret@host:1/x").name


def test_a_folder_gives_plain_files_that_lie_in_it_and_nothing_else(
    repository: Path, tmp_path: Path
) -> None:
    source = FolderSource(repository)
    (tmp_path / "secret").write_bytes(b"secret")
    (repository / "targets" / "link").symlink_to(tmp_path / "secret")
    (repository / "targets" / "folder").symlink_to(tmp_path)
    os.mkfifo(repository / "targets" / "pipe")
    for path in ("targets/link", "targets/folder/secret", "targets/pipe", "targets/a"):
        with pytest.raises(LinkDown):
            read(source, path)
    with pytest.raises(Refused):
        read(source, "../secret")
    (tmp_path / "mounted").symlink_to(repository)  # the folder itself may be reached by one
    assert read(FolderSource(tmp_path / "mounted")) == BODY


def test_the_next_source_is_asked_and_the_one_that_failed_comes_last(repository: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        dead = HttpSource(f"http://127.0.0.1:{taken.getsockname()[1]}")
    here = FolderSource(repository)
    sources = Sources([dead, here])
    assert b"".join(sources.fetch(FILE, max_bytes=1 << 20)) == BODY
    assert [source.name for source in sources.order] == [here.name, dead.name]
    sources.distrust()
    assert [source.name for source in sources.order] == [dead.name, here.name]
    with pytest.raises(LinkDown, match="refused"):
        sources.fetch("targets/none", max_bytes=1)
    with pytest.raises(NotHere):
        Sources([here]).fetch("targets/none", max_bytes=1)


def test_no_source_gives_more_than_was_asked_for() -> None:
    class Endless:
        name = "endless"

        def open(self, path: str, *, offset: int, max_bytes: int) -> Iterator[bytes]:
            del path, offset, max_bytes
            while True:
                yield bytes(1000)

    assert len(b"".join(Sources([Endless()]).fetch("x", max_bytes=2500))) == 2500
