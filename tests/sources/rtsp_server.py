"""A real RTSP server on loopback, for `tests.sources.rtsp` alone: Debian's gst-rtsp-server.

Runs under the system's own Python, which has GStreamer's bindings. One argument, JSON: `mounts`
({"/path": {"file", "codec"}}), `user`, `password`, `digest`. Prints its port; ends at the end of
its standard input. Each client gets a clip from its first picture, at its own pace, for ever.
"""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstApp, GstRtspServer  # noqa: E402, F401

PARSED = {
    "h264": "h264parse ! video/x-h264,stream-format=byte-stream,alignment=au",
    "hevc": "h265parse ! video/x-h265,stream-format=byte-stream,alignment=au",
    "mpeg2": "mpegvideoparse",
    "mjpeg": "jpegparse",
}
PAYED = {
    "h264": "rtph264pay config-interval=-1 pt=96",
    "hevc": "rtph265pay config-interval=-1 pt=96",
    "mpeg2": "rtpmpvpay pt=32",
    "mjpeg": "rtpjpegpay pt=26",
}
ROLE = "viewer"
FRAME_NS = 40_000_000
LONGEST_S = 10


class Clip:
    """A file taken apart once: its access units with their stamps, so that it loops seamlessly."""

    def __init__(self, file: str, codec: str) -> None:
        self.codec = codec
        pipeline = Gst.parse_launch(
            f"filesrc name=file ! parsebin ! {PARSED[codec]} ! appsink name=out sync=false"
        )
        pipeline.get_by_name("file").set_property("location", file)
        out = pipeline.get_by_name("out")
        pipeline.set_state(Gst.State.PLAYING)
        self.caps: Any = None
        self.units: list[Any] = []
        while (sample := out.try_pull_sample(LONGEST_S * Gst.SECOND)) is not None:
            self.caps = self.caps or sample.get_caps()
            self.units.append(sample.get_buffer())
        pipeline.set_state(Gst.State.NULL)
        if not self.units:
            sys.exit("no video in this file")
        self._stamp()

    def _stamp(self) -> None:
        """pts and dts from 0; a unit without either follows the one before it."""
        plain = [unit for unit in self.units if unit.pts == Gst.CLOCK_TIME_NONE]
        if plain:
            self.stamps = [(n * FRAME_NS, n * FRAME_NS) for n in range(len(self.units))]
        else:
            self.stamps = [
                (u.pts, u.pts if u.dts == Gst.CLOCK_TIME_NONE else u.dts) for u in self.units
            ]
        first = min(min(pair) for pair in self.stamps)
        self.stamps = [(pts - first, dts - first) for pts, dts in self.stamps]
        shown = sorted(pts for pts, _ in self.stamps)
        last = shown[-1] - shown[-2] if len(shown) > 1 else FRAME_NS
        self.length = shown[-1] - shown[0] + last


class Feed:
    """Of one client: hands on the next unit whenever it is asked."""

    def __init__(self, clip: Clip) -> None:
        self.clip, self.index = clip, 0

    def need(self, source: Any, _length: int) -> None:
        rounds, at = divmod(self.index, len(self.clip.units))
        self.index += 1
        buffer = self.clip.units[at].copy_deep()
        pts, dts = self.clip.stamps[at]
        buffer.pts = pts + rounds * self.clip.length
        buffer.dts = dts + rounds * self.clip.length
        source.emit("push-buffer", buffer)


class Factory(GstRtspServer.RTSPMediaFactory):  # type: ignore[misc]
    def __init__(self, clip: Clip) -> None:
        super().__init__()
        self.clip = clip

    def do_create_element(self, _url: Any) -> Any:
        return Gst.parse_launch(f"( appsrc name=source ! {PAYED[self.clip.codec]} name=pay0 )")

    def do_configure(self, media: Any) -> None:
        source = media.get_element().get_by_name_recurse_up("source")
        source.set_property("caps", self.clip.caps)
        source.set_property("format", Gst.Format.TIME)
        media.feed = Feed(self.clip)
        source.connect("need-data", media.feed.need)


def guard(server: Any, order: dict[str, Any]) -> None:
    """Who has the password gets in."""
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", ROLE)
    auth = GstRtspServer.RTSPAuth()
    if order["digest"]:
        auth.set_supported_methods(2)  # GST_RTSP_AUTH_DIGEST
        auth.add_digest(order["user"], order["password"], token)
    else:
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(order["user"], order["password"]), token)
    server.set_auth(auth)


def main() -> None:
    order = json.loads(sys.argv[1])
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service("0")
    if order["user"]:
        guard(server, order)
    for path, mount in order["mounts"].items():
        factory = Factory(Clip(mount["file"], mount["codec"]))
        if order["user"]:
            factory.add_role_from_structure(
                Gst.Structure.from_string(
                    f"{ROLE}, media.factory.access=(boolean)true,"
                    " media.factory.construct=(boolean)true"
                )[0]
            )
        server.get_mount_points().add_factory(path, factory)
    if server.attach(None) == 0:
        sys.exit("no port")
    sys.stdout.write(f"{server.get_bound_port()}\n")
    sys.stdout.flush()
    loop = GLib.MainLoop()
    threading.Thread(target=lambda: (sys.stdin.read(), loop.quit()), daemon=True).start()
    loop.run()


if __name__ == "__main__":
    main()
