"""Each kind of recording shows what is in it, or says why not. Made by ffmpeg, of known content.

A colour is right within 3 levels (5 where it went through a lossy code of its own).
"""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.config.structs import VideoSource
from edge_agent.core.errors import BadFrame, Rejected, SourceEnded, SourceLost
from edge_agent.core.frames import Frame
from edge_agent.host import SystemClock
from edge_agent.ports import Clock, SourceFacts
from edge_agent.sources.video import VideoFrames
from tests import clips
from tests.clips import COLOUR, PLAIN, x264
from tests.sources.hand import HandClock

INTERLACED = ("-vf", "interlace=scan=tff")
FLAGS = ("-flags", "+ilme+ildct")


@pytest.fixture
def sources() -> Iterator[list[VideoFrames]]:
    made: list[VideoFrames] = []
    yield made
    for source in made:
        source.close()


class Played:
    """All that came of a file."""

    def __init__(self, path: Path | str, *, clock: Clock | None = None, **settings: Any) -> None:
        config = VideoSource(where=str(path), **{"pace": "fast", **settings})
        source = VideoFrames(config, clock or HandClock())
        self.frames: list[Frame] = []
        self.bad: list[str] = []
        try:
            self.facts: SourceFacts = source.open()
            self._read(source)
        finally:
            source.close()

    def _read(self, source: VideoFrames) -> None:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            try:
                frame = source.read(5.0)
            except BadFrame as bad:
                self.bad.append(str(bad))
                continue
            except SourceEnded:
                return
            if frame is not None:
                self.frames.append(frame)
        pytest.fail("it does not end")

    @property
    def sizes(self) -> list[tuple[int, int]]:
        return [frame.size for frame in self.frames]

    def off(self, rgb: tuple[int, int, int] = COLOUR) -> int:
        """The largest distance from one colour, over every pixel of every frame."""
        pictures = [f.pixels if f.pixels.ndim == 3 else f.pixels[..., None] for f in self.frames]
        return max(int(np.abs(picture.astype(int) - rgb[::-1]).max()) for picture in pictures)


# ── interlaced ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("h264.mp4", x264("-qp", "1", *FLAGS, "-x264opts", "tff=1")),
        ("bff.mkv", x264("-qp", "1", *FLAGS, "-x264opts", "bff=1")),
        ("paff.ts", x264("-qp", "1", *FLAGS, "-x264opts", "fake-interlaced=1")),
        ("mpeg2.ts", ("-c:v", "mpeg2video", "-q:v", "1", *FLAGS, "-pix_fmt", "yuv420p")),
        ("mpeg2.mpg", ("-c:v", "mpeg2video", "-q:v", "1", *FLAGS, "-pix_fmt", "yuv420p")),
        ("mjpeg.mov", ("-c:v", "mjpeg", "-q:v", "1", "-pix_fmt", "yuvj420p", "-field_order", "tt")),
        ("h422.mkv", ("-c:v", "libx264", "-qp", "1", *FLAGS, "-pix_fmt", "yuv422p10le")),
    ],
)
def test_interlaced_video_is_what_was_recorded_and_no_memory(
    tmp_path: Path, name: str, words: tuple[str, ...]
) -> None:
    """OpenCV from 4.13 on gave memory of other streams, and called it frames."""
    clip = clips.make(tmp_path / name, f"{PLAIN}:s=176x144:r=50:d=0.4", *INTERLACED, *words)
    played = Played(clip)
    assert played.sizes == [(176, 144)] * 10
    assert not played.bad
    assert played.off() <= 5
    if name != "paff.ts":
        assert "interlaced" in played.facts.details["scan"]


def test_dv_is_interlaced_and_has_pixels_that_are_not_square(tmp_path: Path) -> None:
    words = ("-c:v", "dvvideo", "-pix_fmt", "yuv420p")
    clip = clips.make(tmp_path / "tape.dv", f"{PLAIN}:s=720x576:r=50:d=0.16", *INTERLACED, *words)
    played = Played(clip)
    assert played.sizes == [(768, 576)] * 4
    assert played.off() <= 5
    assert played.facts.details["pixels"] == "not square: 720 x 576 px shown as 768 x 576 px"


def test_a_moving_edge_of_an_interlaced_picture_has_no_comb(tmp_path: Path) -> None:
    moving = "color=black:s=160x96:r=50:d=0.4[a];color=white:s=40x96:r=50:d=0.4[b];"
    moving += "[a][b]overlay=x=n*6,format=yuv420p"
    clip = clips.make(
        tmp_path / "moving.mkv",
        moving,
        *INTERLACED,
        *x264("-qp", "1", *FLAGS, "-x264opts", "tff=1"),
    )
    for frame in Played(clip).frames:
        inner = frame.pixels[4:-4, :, 1].astype(int)
        assert np.abs(inner - inner[0]).max() <= 12


# ── size, pixels, turn ────────────────────────────────────────────────────────────────────────

SIZES = ((160, 96), (320, 192), (96, 64), (160, 96))


@pytest.fixture
def changing(tmp_path: Path) -> bytes:
    """Four recordings behind one another, five frames each, a white square of 32 px in each."""
    whole = b""
    for width, height in SIZES:
        box = f"color=black:s={width}x{height}:r=25:d=0.2,drawbox=16:16:32:32:white:fill"
        words = x264("-bf", "0", "-qp", "4", "-f", "mpegts")
        whole += clips.make(tmp_path / "part.ts", box, *words).read_bytes()
    return whole


@pytest.mark.parametrize("name", ["all.ts", "all.h264"])
def test_a_size_that_changes_arrives_as_it_is(tmp_path: Path, changing: bytes, name: str) -> None:
    """Every frame was scaled to the size of the first: a square became 50 x 67 px."""
    path = tmp_path / "all.ts"
    path.write_bytes(changing)
    if name == "all.h264":
        path = tmp_path / name
        cut = ["ffmpeg", "-loglevel", "quiet", "-i", str(tmp_path / "all.ts"), "-c", "copy"]
        subprocess.run([*cut, "-f", "h264", str(path)], check=True)
    played = Played(path)
    assert played.sizes == [size for size in SIZES for _ in range(5)]
    assert not played.bad
    for frame in played.frames:
        rows, columns = np.nonzero(frame.pixels[..., 1] > 128)
        found = (columns.min(), rows.min(), columns.max(), rows.max())
        assert np.abs(np.subtract(found, (16, 16, 47, 47))).max() <= 1


def test_a_roi_that_no_longer_fits_is_said_of_those_frames_and_costs_the_stream_nothing(
    tmp_path: Path, changing: bytes
) -> None:
    path = tmp_path / "all.ts"
    path.write_bytes(changing)
    played = Played(path, roi=(0, 0, 160, 96))
    assert [size[0] for size in played.sizes] == [160] * 5 + [320] * 5 + [96] * 5 + [160] * 5
    assert not played.bad
    said = [frame.calibration.reason for frame in played.frames]
    assert ["does not fit" in one for one in said] == [size == (96, 64) for size in played.sizes]
    assert said[10] == "roi [0, 0, 160, 96] does not fit frames of 96x64 px"


@pytest.mark.parametrize(
    ("degrees", "corner"), [(0, (0, 0)), (90, (-1, 0)), (180, (-1, -1)), (270, (0, -1))]
)
def test_a_turned_recording_is_shown_upright(
    tmp_path: Path, degrees: int, corner: tuple[int, int]
) -> None:
    box = "color=black:s=160x96:r=25:d=0.2,drawbox=0:0:32:32:white:fill"
    flat = clips.make(tmp_path / "flat.mp4", box, *x264("-qp", "4"))
    path = tmp_path / "turned.mp4"
    words = ["-metadata:s:v:0", f"rotate={degrees}", str(path)]
    subprocess.run(
        ["ffmpeg", "-loglevel", "quiet", "-i", str(flat), "-c", "copy", *words], check=True
    )
    played = Played(path)
    assert played.sizes[0] == ((96, 160) if degrees in (90, 270) else (160, 96))
    assert played.facts.size == played.sizes[0]
    turned = {played.frames[0].pixels[y, x, 1] > 128: (y, x) for y in (0, -1) for x in (0, -1)}
    assert turned[True] in {corner, corner[::-1]}
    assert ("turned" in played.facts.details) == (degrees != 0)


@pytest.mark.parametrize(("aspect", "width"), [("16/15", 188), ("8/9", 156), ("1/1", 176)])
def test_pixels_are_made_square_in_width(tmp_path: Path, aspect: str, width: int) -> None:
    graph = f"{PLAIN}:s=176x144:r=25:d=0.2,setsar={aspect}"
    played = Played(clips.make(tmp_path / "wide.mp4", graph, *x264("-qp", "1")))
    assert played.sizes[0] == (width, 144)
    assert played.off() <= 5


# ── colours ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("size", "matrix", "tags", "format_"),
    [
        ("1280x720", "bt709", (), "yuv420p"),
        ("720x576", "bt601", (), "yuv420p"),
        ("320x240", "bt709", ("-colorspace", "bt709"), "yuv420p"),
        ("1280x720", "bt601", ("-colorspace", "smpte170m"), "yuv420p"),
        ("320x240", "bt2020", ("-colorspace", "bt2020nc"), "yuv420p10le"),
        ("320x240", "bt601", (), "yuv444p"),
    ],
)
def test_colours_are_by_tag_and_without_one_by_size(
    tmp_path: Path, size: str, matrix: str, tags: tuple[str, ...], format_: str
) -> None:
    graph = f"{PLAIN}:s={size}:r=25:d=0.08,format=gbrp,scale=out_color_matrix={matrix}:out_range=tv"
    words = ("-c:v", "libx264", "-preset", "ultrafast", "-qp", "0", *tags)
    clip = clips.make(tmp_path / "clip.mkv", f"{graph},format={format_}", *words)
    assert Played(clip).off() <= 3


def test_full_range_rgb_and_gray_are_what_they_are(tmp_path: Path) -> None:
    graph = f"{PLAIN}:s=160x96:r=25:d=0.08,format=gbrp"
    full = f"{graph},scale=out_range=pc:out_color_matrix=bt601,format=yuv420p"
    words = ("-c:v", "libx264", "-qp", "0", "-color_range", "pc")
    assert Played(clips.make(tmp_path / "full.mkv", full, *words)).off() <= 3
    assert (
        Played(clips.make(tmp_path / "rgb.mkv", graph, "-c:v", "libx264rgb", "-qp", "0")).off() <= 1
    )
    assert Played(clips.make(tmp_path / "ffv1.mkv", graph, "-c:v", "ffv1")).off() == 0
    gray = "color=0x808080:s=160x96:r=25:d=0.08,format=gray"
    played = Played(clips.make(tmp_path / "gray.mkv", gray, "-c:v", "ffv1"))
    assert played.frames[0].pixels.shape == (96, 160)
    assert abs(int(played.frames[0].pixels.mean()) - 128) <= 3


# ── time ──────────────────────────────────────────────────────────────────────────────────────


def spent(played: Played) -> float:
    stamps = [frame.captured_us for frame in played.frames]
    return (stamps[-1] - stamps[0]) / 1e6


def test_uneven_video_is_played_over_its_own_time_whatever_rate_it_claims(tmp_path: Path) -> None:
    graph = "testsrc=s=64x48:r=15:d=2,settb=1/1000,setpts='if(lt(N,20),N,20+(N-20)*100)'"
    words = ("-r", "1000", "-fps_mode", "vfr", "-c:v", "libvpx", "-f", "webm")
    played = Played(clips.make(tmp_path / "a.webm", graph, *words), pace="real")
    assert "its time stamps" in played.facts.details["rate"]
    assert "1000 fps, not plausible" in played.facts.details["rate"]
    assert len(played.frames) == 30
    assert spent(played) == pytest.approx(0.92, abs=0.11)
    assert [frame.pts_us for frame in played.frames[:3]] == [0, 1000, 2000]


def test_without_stamps_the_rate_is_told_and_one_that_is_configured_goes_before(
    tmp_path: Path,
) -> None:
    graph = "testsrc=s=64x48:r=15:d=2"
    raw = clips.make(tmp_path / "raw.h264", graph, *x264("-f", "h264"))
    played = Played(raw, pace="real")
    assert "15 fps" in played.facts.details["rate"]
    assert "set source.fps" in played.facts.details["rate"]
    assert spent(played) == pytest.approx(29 / 15, abs=0.01)
    assert spent(Played(raw, pace="real", fps=30.0)) == pytest.approx(29 / 30, abs=0.01)


def test_a_recording_that_starts_at_an_hour_starts_now(tmp_path: Path) -> None:
    words = x264("-bf", "2", "-output_ts_offset", "3600", "-f", "mpegts")
    played = Played(
        clips.make(tmp_path / "late.ts", "testsrc=s=64x48:r=25:d=1", *words), pace="real"
    )
    assert played.frames[0].pts_us == 0
    assert spent(played) == pytest.approx(24 / 25, abs=0.01)


# ── damage ────────────────────────────────────────────────────────────────────────────────────

CODES = {
    "h264.mp4": x264("-g", "10", "-bf", "2"),
    "h264.ts": x264("-g", "10", "-bf", "0"),
    "mpeg2.ts": ("-c:v", "mpeg2video", "-g", "10", "-bf", "2", "-q:v", "3"),
    "mpeg4.avi": ("-c:v", "mpeg4", "-g", "10", "-q:v", "3"),
    "hevc.mp4": (
        "-c:v",
        "libx265",
        "-x265-params",
        "keyint=10:log-level=none",
        "-pix_fmt",
        "yuv420p",
    ),
    "mjpeg.avi": ("-c:v", "mjpeg", "-q:v", "3"),
}


@pytest.mark.parametrize("name", CODES)
def test_what_is_damaged_is_told_and_never_shown_and_what_follows_is(
    tmp_path: Path, name: str
) -> None:
    clip = clips.make(tmp_path / name, "testsrc2=s=160x96:r=25:d=2", *CODES[name])
    sound = Played(clip)
    assert len(sound.frames) == 50
    assert not sound.bad
    right = {frame.pts_us: frame.pixels for frame in sound.frames}
    whole = clip.read_bytes()
    middle = len(whole) // 2
    for hole in (188, 600):
        clip.write_bytes(whole[:middle] + bytes(hole) + whole[middle + hole :])
        played = Played(clip)
        assert played.bad, "told"
        assert "damaged" in played.bad[0]
        assert len(played.frames) >= 25
        assert (played.frames[-1].pts_us or 0) >= 1_880_000, "and it recovers"
        for frame in played.frames:
            near = [right.get((frame.pts_us or 0) + step * 40_000) for step in (0, 1)]
            off = [np.abs(frame.pixels.astype(int) - p).mean() for p in near if p is not None]
            assert min(off) < 1, f"frame at {frame.pts_us}"  # AVI counts: one lost is a step


def test_packets_that_are_lost_cost_frames_up_to_the_next_key_frame(tmp_path: Path) -> None:
    clip = clips.make(tmp_path / "lost.ts", "testsrc2=s=160x96:r=25:d=2", *CODES["h264.ts"])
    right = {frame.pts_us: frame.pixels for frame in Played(clip).frames}
    whole = clip.read_bytes()
    middle = len(whole) // 2 // 188 * 188
    clip.write_bytes(whole[:middle] + whole[middle + 3 * 188 :])
    played = Played(clip)
    assert played.bad
    assert all(np.abs(f.pixels.astype(int) - right[f.pts_us]).mean() < 1 for f in played.frames)


@pytest.mark.parametrize(("name", "lost"), [("h264.mp4", 10), ("hevc.mp4", 10)])
def test_what_leans_on_a_packet_that_is_not_there_is_not_shown(
    tmp_path: Path, name: str, lost: int
) -> None:
    """The decoders whisper of it, after the frames before it have come out."""
    clip = clips.make(tmp_path / name, "testsrc2=s=160x96:r=25:d=2", *CODES[name])
    right = {frame.pts_us: frame.pixels for frame in Played(clip).frames}
    torn = tmp_path / f"torn-{name}"
    drop = ["-c", "copy", "-bsf:v", f"noise=drop='eq(n,{lost})'"]
    subprocess.run(["ffmpeg", "-loglevel", "quiet", "-i", str(clip), *drop, str(torn)], check=True)
    played = Played(torn)
    assert played.bad
    assert played.frames
    for frame in played.frames:
        off = [np.abs(frame.pixels.astype(int) - pixels).mean() for pixels in right.values()]
        assert min(off) < 1


def test_black_pictures_are_no_holes(tmp_path: Path) -> None:
    """They begin with zeros, raw or coded without loss."""
    black = "color=black:s=160x96:r=25:d=0.4"
    raw = ("-c:v", "rawvideo", "-pix_fmt", "bgr24")
    gray = ("-c:v", "rawvideo", "-pix_fmt", "gray")
    for name, words in {
        "raw.avi": raw,
        "raw.nut": gray,
        "ffv1.mkv": ("-c:v", "ffv1"),
        "h264.mp4": x264(),
        "vp8.webm": ("-c:v", "libvpx"),
        "mpeg2.ts": ("-c:v", "mpeg2video"),
        "mjpeg.avi": ("-c:v", "mjpeg"),
        "raw.mjpeg": ("-c:v", "mjpeg"),
    }.items():
        played = Played(clips.make(tmp_path / name, black, *words))
        assert len(played.frames) == 10, name
        assert not played.bad, name
        assert played.off((0, 0, 0)) <= 3, name


# ── what is no video ──────────────────────────────────────────────────────────────────────────


def test_sound_alone_a_cover_and_files_without_an_index_are_refused(tmp_path: Path) -> None:
    sound = clips.make(tmp_path / "a.wav", "color=s=64x48:d=0.1", "-f", "lavfi", "-i",
                       "sine=d=0.2", "-map", "1:a")  # fmt: skip
    film = clips.make(tmp_path / "film.mp4", "testsrc2=s=160x96:r=25:d=1", *x264())
    whole = film.read_bytes()
    headless = tmp_path / "headless.mp4"
    headless.write_bytes(whole[: whole.rindex(b"moov") - 4])
    cover = clips.make(tmp_path / "cover.jpg", "color=s=64x48:d=0.04", "-frames:v", "1")
    music = tmp_path / "music.mp3"
    words = ["-i", str(sound), "-i", str(cover), "-map", "0", "-map", "1", "-c:v", "copy"]
    subprocess.run(
        ["ffmpeg", "-loglevel", "quiet", *words, "-disposition:v:0", "attached_pic", str(music)],
        check=True,
    )
    for path in (sound, music, headless):
        with pytest.raises(Rejected, match="expected a video file"):
            Played(path)
    with pytest.raises(SourceLost, match="expected a file"):
        Played(tmp_path)


def test_two_tracks_of_sound_beside_it_do_no_harm(tmp_path: Path) -> None:
    tones = ("-f", "lavfi", "-i", "sine=d=0.4", "-f", "lavfi", "-i", "sine=f=880:d=0.4")
    maps = ("-map", "1:a", "-map", "0:v", "-map", "2:a", *x264("-qp", "1"), "-c:a", "aac")
    clip = clips.make(tmp_path / "both.mkv", f"{PLAIN}:s=160x96:r=25:d=0.4", *tones, *maps)
    played = Played(clip)
    assert len(played.frames) == 10
    assert played.off() <= 3


def test_a_playlist_that_names_other_files_is_no_video(tmp_path: Path) -> None:
    """FFmpeg would follow it: to any file that the agent may read, or to the network."""
    film = clips.make(tmp_path / "film.ts", "testsrc2=s=160x96:r=25:d=0.2", *x264())
    for name, text in (
        ("list.mp4", f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{film}\n#EXT-X-ENDLIST\n"),
        ("list.avi", f"ffconcat version 1.0\nfile '{film}'\n"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(Rejected):
            Played(tmp_path / name)


# ── live ──────────────────────────────────────────────────────────────────────────────────────


class Sender:
    """Sends a clip to each who connects, at its pace or not at all."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._held: list[socket.socket] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                line, _ = self._socket.accept()
            except OSError:
                return
            self._held.append(line)
            threading.Thread(target=self._send, args=(line,), daemon=True).start()

    def _send(self, line: socket.socket) -> None:
        try:
            for at in range(0, len(self._content), 188 * 7):
                line.sendall(self._content[at : at + 188 * 7])
                if self._stop.wait(0.01):
                    return
        except OSError:
            return

    def close(self) -> None:
        self._stop.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for line in self._held:
            line.close()
        self._thread.join()


def test_who_tunes_in_between_two_key_frames_is_told_of_no_damage(
    tmp_path: Path, sources: list[VideoFrames]
) -> None:
    graph = f"{PLAIN}:s=160x96:r=25:d=8,noise=alls=4"
    clip = clips.make(
        tmp_path / "live.ts", graph, *x264("-g", "40", "-b:v", "400k", "-f", "mpegts")
    )
    content = clip.read_bytes()
    sender = Sender(content[len(content) // 5 // 188 * 188 :])
    try:
        live = VideoFrames(VideoSource(where=f"tcp://127.0.0.1:{sender.port}"), SystemClock())
        sources.append(live)
        live.open()
        frames = [frame for _ in range(8) if (frame := live.read(2.0)) is not None]
        assert frames
        assert all(np.abs(f.pixels.mean((0, 1)) - COLOUR[::-1]).max() < 12 for f in frames)
    finally:
        sender.close()


def test_a_camera_opens_at_once_beside_four_that_are_silent(
    tmp_path: Path, sources: list[VideoFrames]
) -> None:
    """OpenCV opens one at a time: each silent camera held up the others for 5 s."""
    graph = f"{PLAIN}:s=160x96:r=25:d=20,noise=alls=4"
    clip = clips.make(tmp_path / "live.ts", graph, *x264("-g", "5", "-b:v", "800k", "-f", "mpegts"))
    good, silent = Sender(clip.read_bytes()), Sender(b"")
    clock = SystemClock()
    dead = [
        VideoFrames(VideoSource(where=f"tcp://127.0.0.1:{silent.port}"), clock) for _ in range(4)
    ]
    ended: list[float] = []

    def opening(source: VideoFrames) -> None:
        begun = time.monotonic()
        with pytest.raises(SourceLost, match="no video came"):
            source.open()
        ended.append(time.monotonic() - begun)

    threads = [threading.Thread(target=opening, args=(source,)) for source in dead]
    try:
        for thread in threads:
            thread.start()
        live = VideoFrames(VideoSource(where=f"tcp://127.0.0.1:{good.port}"), clock)
        sources.append(live)
        begun = time.monotonic()
        facts = live.open()
        frame = live.read(2.0)
        assert time.monotonic() - begun < 2.0
        assert frame is not None
        assert facts.live
        assert np.abs(frame.pixels.mean((0, 1)) - COLOUR[::-1]).max() < 12
    finally:
        for thread in threads:
            thread.join()
        good.close()
        silent.close()
    assert len(ended) == 4
    assert max(ended) < 12


@pytest.mark.parametrize(
    ("name", "codec"), [("b.m2v", ("mpeg2video", "-q:v", "3")), ("b.h264", ("libx264",))]
)
def test_a_bare_stream_with_b_frames_has_the_rate_of_its_header_and_no_stamps(
    tmp_path: Path, name: str, codec: tuple[str, ...]
) -> None:
    """Its stamps are FFmpeg's own guess: they begin before zero, and the last ones are missing."""
    path = clips.make(
        tmp_path / name, "testsrc2=s=96x64:r=30000/1001:d=1", "-c:v", *codec, "-bf", "2", "-g", "12"
    )
    played = Played(path)
    assert "29.97 fps" in played.facts.details["rate"]
    assert {frame.pts_us for frame in played.frames} == {None}


def test_a_codec_that_only_a_gpu_decodes_here_is_refused_and_not_called_damaged(
    tmp_path: Path,
) -> None:
    """Each frame was told as damage on the network or the disk."""
    words = ("-c:v", "libaom-av1", "-cpu-used", "8", "-frames:v", "2")
    path = clips.make(tmp_path / "a.mkv", "color=gray:s=64x64:r=25:d=1", *words)
    with pytest.raises(Rejected, match="coded as av1, which this FFmpeg does not decode"):
        Played(path)


def test_what_is_wrong_with_a_frame_is_told_in_words_that_are_whole(tmp_path: Path) -> None:
    """The words of FFmpeg have holes for numbers: "packet size %d < expected frame_size %d"."""
    path = clips.make(tmp_path / "r.avi", f"{clips.PLAIN}:s=64x48:r=25:d=1", "-c:v", "rawvideo")
    path.write_bytes(path.read_bytes()[: 64 * 48 * 3 * 5 + 9000])
    played = Played(path)
    assert played.bad
    assert "%" not in "".join(played.bad)


def test_a_folder_is_called_a_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceLost, match="expected a file, got a folder") as lost:
        Played(tmp_path)
    assert 'kind = "images"' in str(lost.value.hint)
