"""A daemon to talk to: real HTTP on a real UNIX socket, canned answers."""

from __future__ import annotations

import contextlib
import http.server
import json
import socketserver
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

STATUS: dict[str, Any] = {
    "schema": 1,
    "node": "cart-3",
    "version": "0.1.0",
    "state": "degraded",
    "uptime_s": 273_600.0,
    "level": 0,
    "streams": {
        "ultrasound": {
            "state": "ok",
            "source": "dicom sample:ultrasound",
            "title": "Herz-Ultraschall",
            "room": "12",
            "captured": 1000,
            "inferred": 998,
            "dropped": {"overwritten": 2, "late": 0, "error": 0},
            "frozen": 0,
            "fps_in": 30.0,
            "fps_out": 29.9,
            "fps_expected": 30.0,
            "latency_ms": {"p50": 7.84, "p99": 12.91},
            "added_ms": {"p50": 0.11, "p99": 0.42},
            "age_ms": 21.0,
            "calibrated": False,
            "model": "us-chamber",
            "model_version": "1.1.0",
            "reason": "",
        },
        "endoscope": {
            "state": "no_signal",
            "source": "rtsp://tower:***@10.0.0.7/1",
            "title": "内視鏡 2",
            "captured": 0,
            "inferred": 0,
            "dropped": {},
            "fps_in": 0.0,
            "fps_out": 0.0,
            "latency_ms": {"p50": None, "p99": None},
            "age_ms": None,
            "model": "endo-polyp",
            "model_version": "1.0.0",
            "reason": "no frame for 2.0 s",
        },
    },
    "spool": {
        "records": 1204,
        "bytes": 1_258_291,
        "limit_bytes": 33_554_432,
        "oldest_s": 7868.0,
        "appended": 1204,
        "acked": 0,
        "evicted": 0,
        "corrupt": 0,
        "volatile": True,
    },
    "problems": [
        {
            "severity": "critical",
            "what": "stream endoscope: no frame for 2.0 s",
            "fix": "check the cable of the tower",
        }
    ],
}

STREAMS: dict[str, Any] = {
    "schema": 1,
    "streams": {
        name: {
            **stream,
            "facts": {
                "where": stream["source"],
                "expected_fps": 30.0,
                "size": [800, 600],
                "live": name == "endoscope",
                "details": {"transfer syntax": "JPEG baseline"},
            },
            "calibration": {
                "reason": "region overruns the image",
                "spacing_mm": None,
                "spacing_from": "",
                "roi": None,
            },
        }
        for name, stream in STATUS["streams"].items()
    },
}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        status, body = self.server.answers.get(
            self.path, (404, json.dumps({"error": f"no {self.path}", "hint": "see docs"}).encode())
        )
        self.send_response(status)
        if isinstance(body, bytes):
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in body:
            self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        return


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """answers: by target, (status, whole body or the chunks of one)."""

    block_on_close = True
    answers: dict[str, tuple[int, bytes | list[bytes]]]

    def get_request(self) -> tuple[Any, Any]:
        connection, _ = super().get_request()
        return connection, ("local", 0)

    def answer(self, target: str, document: Mapping[str, Any] | bytes | list[bytes]) -> None:
        body = json.dumps(document).encode() if isinstance(document, Mapping) else document
        self.answers[target] = 200, body


@contextlib.contextmanager
def serving(path: Path) -> Iterator[Server]:
    server = Server(str(path), Handler)
    server.answers = {}
    server.answer("/v1/status", STATUS)
    server.answer("/v1/streams", STREAMS)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
