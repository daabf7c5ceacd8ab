"""Video inside DICOM: MPEG-2, H.264 and HEVC, shown frame by frame or refused in words."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.config.structs import DicomSource
from edge_agent.core.errors import Rejected, SourceLost
from edge_agent.core.frames import Frame
from edge_agent.decoder.process import usable
from edge_agent.sources.dicom import stream
from edge_agent.sources.dicom.openfile import Name
from edge_agent.sources.dicom.videoclip import VideoClip
from tests import clips
from tests.sources import dicoms, videodicoms
from tests.sources.conftest import Opened
from tests.sources.hand import KEY, HandClock, told
from tests.sources.videodicoms import H264, HEVC, MPEG2, MPEG2_ENCODER, encapsulated, write

COUNT = 10


@pytest.fixture(scope="session")
def streams(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("streams")


@functools.cache
def _stream(folder: Path, kind: str, source: str = videodicoms.PLAIN) -> bytes:
    """10 frames."""
    end, words = {
        "h264": ("h264", clips.x264("-g", "5", "-bf", "2")),
        "h264-interlaced": ("h264", clips.x264("-flags", "+ilme+ildct", "-x264opts", "tff=1")),
        "h264-marked": ("h264", clips.x264("-bf", "2", "-x264opts", "aud=1")),
        "h264-mp4": ("mp4", clips.x264("-g", "5")),
        "hevc": (
            "hevc",
            ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=0"),
        ),
        "mpeg2": ("m2v", (*MPEG2_ENCODER, "-g", "5")),
        "mpeg2-b": ("m2v", (*MPEG2_ENCODER, "-g", "6", "-bf", "2")),
        "mpeg2-ts": ("ts", (*MPEG2_ENCODER, "-f", "mpegts")),
        "mpeg2-ps": ("mpg", (*MPEG2_ENCODER, "-f", "vob")),
    }[kind]
    if kind == "hevc" and not _has("libx265"):
        pytest.skip("needs an ffmpeg with libx265")
    path = folder / f"{kind}-{abs(hash(source))}.{end}"
    return clips.make(path, source, "-frames:v", str(COUNT), *words).read_bytes()


def _has(encoder: str) -> bool:
    try:
        said = subprocess.run(
            ["ffmpeg", "-hide_banner", "-encoders"], capture_output=True, text=True, check=False
        )
    except OSError:
        return True  # that it is absent is said by who makes a clip
    return encoder in said.stdout


def _frames(shown: list[Frame | str]) -> list[Frame]:
    assert all(isinstance(one, Frame) for one in shown), shown
    return [one for one in shown if isinstance(one, Frame)]


def _is_plain(frame: Frame, tolerance: int = 3) -> bool:
    off = np.abs(frame.pixels.astype(int) - np.array(clips.COLOUR[::-1]))
    return frame.pixels.shape == (*videodicoms.SIZE[::-1], 3) and int(off.max()) <= tolerance


SYNTAXES = {
    "h264": H264,
    "h264-interlaced": "1.2.840.10008.1.2.4.103",
    "h264-mp4": "1.2.840.10008.1.2.4.102.1",
    "hevc": HEVC,
    "mpeg2": MPEG2,
    "mpeg2-ts": "1.2.840.10008.1.2.4.101",
    "mpeg2-ps": "1.2.840.10008.1.2.4.100.1",
}


@pytest.mark.parametrize("kind", SYNTAXES)
def test_each_frame_has_its_colour_time_and_calibration(
    dicom: Opened, tmp_path: Path, streams: Path, kind: str
) -> None:
    coded = _stream(streams, kind)
    path = write(
        tmp_path / "clip.dcm",
        encapsulated([coded]),
        syntax=SYNTAXES[kind],
        SequenceOfUltrasoundRegions=dicoms.regions({}),
    )
    source, facts = dicom(path)
    frames = _frames(list(told(source)))
    assert len(frames) == COUNT
    assert all(_is_plain(frame) for frame in frames)
    assert [frame.pts_us for frame in frames] == [40_000 * n for n in range(COUNT)]
    assert frames[0].calibration.spacing_mm == (0.5, 0.4)
    assert all(frame.exam == frames[0].exam and frame.exam for frame in frames)
    assert facts.size == videodicoms.SIZE
    assert facts.expected_fps == pytest.approx(25)
    assert facts.details["rate"] == "25 fps from FrameTime"
    assert "BT.601, limited range" in facts.details["levels"]
    assert ("deinterlaced" in facts.details["levels"]) == (kind == "h264-interlaced")
    assert "FFmpeg" in facts.details["decoder"]
    assert not frames[0].pixels.flags.writeable


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        (None, "10 images, the header does not say how many"),
        (0, "10 images, the header says 0"),
        (1, "10 images, the header says 1"),
        (9, "10 images, the header says 9"),
        (10, "10"),
        (14, "10 images, the header says 14"),
    ],
)
def test_a_wrong_number_of_frames_is_told_and_none_is_lost(
    dicom: Opened, tmp_path: Path, streams: Path, claim: int | None, words: str
) -> None:
    coded = _stream(streams, "h264", videodicoms.MOVING)
    clock = HandClock()
    path = write(tmp_path / "clip.dcm", encapsulated([coded]), frames=claim)
    source, facts = dicom(path, clock=clock, loop=True)
    assert facts.details["frames"] != "1"
    shown = list(told(source, reads=3 * COUNT))
    bad = [one for one in shown if isinstance(one, str)]
    assert len(bad) == (claim == 14)
    assert all("expected 14 frames" in one and "ends after 10" in one for one in bad)
    clock.now_us += 2_000_000
    news = source.news()
    assert news is not None
    assert words in news.details["frames"]
    pictures = [one.pixels for one in shown if isinstance(one, Frame)]
    assert np.array_equal(pictures[0], pictures[COUNT])
    assert not np.array_equal(pictures[0], pictures[COUNT - 1])


def test_a_stream_is_the_same_however_it_is_cut_into_fragments(
    dicom: Opened, tmp_path: Path, streams: Path
) -> None:
    coded = _stream(streams, "h264", videodicoms.MOVING)
    whole, _ = dicom(write(tmp_path / "whole.dcm", encapsulated([coded])))
    wanted = [frame.pixels for frame in _frames(list(told(whole)))]

    @given(
        cuts=st.lists(st.integers(0, len(coded) // 2), max_size=12),
        table=st.sampled_from([None, b"", bytes(4), bytes(4) + b"\x10\0\0\0"]),
        is_undefined=st.booleans(),
    )
    @settings(
        max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    def same(cuts: list[int], table: bytes | None, *, is_undefined: bool) -> None:
        ends = [0, *sorted(2 * cut for cut in cuts), len(coded)]
        pieces = [coded[a:b] for a, b in itertools.pairwise(ends)]
        if table is None:  # a first fragment that is shorter than a start code is no stream
            pieces = [b"".join(pieces[:-1]), pieces[-1]] if len(pieces[0]) < 8 else pieces
            pieces = [piece for piece in pieces if piece]
        content = encapsulated(pieces, table=table)
        path = write(tmp_path / "cut.dcm", content, is_undefined=is_undefined)
        source, _ = dicom(path)
        shown = _frames(list(told(source)))
        source.close()
        assert len(shown) == len(wanted)
        assert all(
            np.array_equal(frame.pixels, pixels)
            for frame, pixels in zip(shown, wanted, strict=True)
        )

    same()


def test_a_fragment_for_each_picture_padded_to_an_even_length(
    dicom: Opened, tmp_path: Path, streams: Path
) -> None:
    coded = _stream(streams, "h264-marked", videodicoms.MOVING)
    starts = [mark.start() for mark in re.finditer(rb"\0\0\0\x01\x09", coded)]
    pieces = [coded[a:b] for a, b in itertools.pairwise([*starts, len(coded)])]
    assert len(pieces) == COUNT
    assert any(len(piece) % 2 for piece in pieces)
    source, _ = dicom(write(tmp_path / "c.dcm", encapsulated(pieces)))
    assert len(_frames(list(told(source)))) == COUNT


def test_a_stream_that_becomes_interlaced_says_so(
    dicom: Opened, tmp_path: Path, streams: Path
) -> None:
    coded = _stream(streams, "h264") + _stream(streams, "h264-interlaced")
    clock = HandClock()
    path = write(tmp_path / "c.dcm", encapsulated([coded]), frames=2 * COUNT)
    source, facts = dicom(path, clock=clock)
    assert "progressive" in facts.details["levels"]
    assert all(_is_plain(frame) for frame in _frames(list(told(source))))
    clock.now_us += 2_000_000
    news = source.news()
    assert news is not None
    assert "deinterlaced" in news.details["levels"]


def test_without_items_the_value_is_the_stream_and_that_is_told(
    dicom: Opened, tmp_path: Path, streams: Path
) -> None:
    coded = _stream(streams, "h264")
    source, facts = dicom(write(tmp_path / "c.dcm", coded + b"\0" * 2, is_undefined=False))
    assert len(_frames(list(told(source)))) == COUNT
    assert "not encapsulated" in facts.details["frames"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (encapsulated([b""]), "a fragment of video, got none"),
        (
            encapsulated([b"Testmann, Irmgard: no video, but a letter. " * 40]),
            "something else, or damage",
        ),
        (encapsulated([b"\0\0\0\x01\x67" + b"\xaa" * 4000]), "decode|damage"),
        (encapsulated([b"A letter of Irmgard"], table=None), "offset table or a stream"),
        (b"Testmann, Irmgard: a letter", "a fragment of video, got something else"),
        (b"", "a fragment of video, got none"),
    ],
    ids=["empty", "text", "noise", "no-table", "no-items", "nothing"],
)
def test_what_is_no_video_is_refused_in_words(
    dicom: Opened, tmp_path: Path, content: bytes, words: str
) -> None:
    with pytest.raises(Rejected, match=words) as refused:
        dicom(write(tmp_path / "Testmann.dcm", content))
    assert refused.value.hint
    assert not any(secret in str(refused.value) for secret in dicoms.SECRETS)


def test_more_fragments_than_fit_in_memory_are_refused_one_is_not(
    dicom: Opened, tmp_path: Path, streams: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coded = _stream(streams, "h264")
    monkeypatch.setattr(stream, "MAX_JOINED_BYTES", len(coded) - 2)
    source, _ = dicom(write(tmp_path / "1.dcm", encapsulated([coded])))
    assert len(_frames(list(told(source)))) == COUNT
    path = write(tmp_path / "2.dcm", encapsulated([coded[:100], coded[100:]]))
    with pytest.raises(Rejected, match=r"bytes of video in several fragments, got \d+ in 2"):
        dicom(path)


def test_a_clip_that_is_cut_off_is_refused(dicom: Opened, tmp_path: Path, streams: Path) -> None:
    content = encapsulated([_stream(streams, "h264")])
    for cut in (len(content) // 2, len(content) - 8):
        with pytest.raises(Rejected, match="cut off or damaged"):
            dicom(write(tmp_path / "clip.dcm", content[:cut]))


def test_another_size_than_the_header_is_refused_with_both(
    dicom: Opened, tmp_path: Path, streams: Path
) -> None:
    path = write(tmp_path / "clip.dcm", encapsulated([_stream(streams, "h264")]), size=(80, 48))
    with pytest.raises(Rejected, match=r"80 x 48 px, as its header says, its stream is 64 x 48 px"):
        dicom(path)


def test_pixels_that_are_not_square_stay_where_regions_count_them(
    dicom: Opened, tmp_path: Path, streams: Path
) -> None:
    wide = _stream(streams, "mpeg2-ts", videodicoms.PLAIN + ",setsar=16/11")
    source, facts = dicom(write(tmp_path / "c.dcm", encapsulated([wide]), syntax=MPEG2))
    assert facts.size == videodicoms.SIZE
    assert all(_is_plain(frame) for frame in _frames(list(told(source))))
    assert "not square" in facts.details["frames"]


def test_without_a_time_in_the_header_the_streams_own_is_played(
    dicom: Opened, tmp_path: Path, streams: Path
) -> None:
    coded = _stream(streams, "h264-mp4", videodicoms.PLAIN.replace("r=25", "r=50"))
    path = write(tmp_path / "c.dcm", encapsulated([coded]), FrameTime=None)
    source, facts = dicom(path)
    frames = _frames(list(told(source)))
    assert [frame.pts_us for frame in frames] == [20_000 * n for n in range(COUNT)]
    assert facts.details["rate"].startswith("of its stream, the header says none: its time stamps")
    assert facts.expected_fps == pytest.approx(50)


def test_a_bare_stream_without_any_time_is_played_by_a_guess_and_said(
    dicom: Opened, tmp_path: Path, streams: Path
) -> None:
    path = write(tmp_path / "c.dcm", encapsulated([_stream(streams, "h264")]), FrameTime=None)
    _, facts = dicom(path)
    assert "25 fps, assumed" in facts.details["rate"]
    assert [trouble.code for trouble in facts.troubles] == ["rate-guessed"]
    path = write(tmp_path / "c.dcm", encapsulated([_stream(streams, "h264")]), FrameTime=10.0)
    _, facts = dicom(path)
    assert facts.expected_fps == pytest.approx(100)
    assert "played at" not in facts.details["frames"], "nothing was said that it differs from"
    assert not facts.troubles


def test_a_bare_mpeg2_stream_says_its_rate(dicom: Opened, tmp_path: Path, streams: Path) -> None:
    ntsc = _stream(streams, "mpeg2-b", videodicoms.MOVING.replace("r=25", "r=30000/1001"))
    path = write(tmp_path / "c.dcm", encapsulated([ntsc]), syntax=MPEG2, FrameTime=None)
    source, facts = dicom(path)
    assert facts.expected_fps == pytest.approx(29.97, abs=0.01)
    stamps = [frame.pts_us for frame in _frames(list(told(source)))]
    assert stamps == [pytest.approx(33_366.7 * n, abs=2 * n + 1) for n in range(COUNT)]
    assert not facts.troubles


def test_a_time_that_is_grossly_another_than_the_streams_is_told(
    dicom: Opened, tmp_path: Path, streams: Path
) -> None:
    path = write(tmp_path / "c.dcm", encapsulated([_stream(streams, "h264-mp4")]), FrameTime=8.0)
    _, facts = dicom(path)
    assert "played at 125 fps from FrameTime, its stream says 25" in facts.details["frames"]


@pytest.mark.parametrize("at", [0, 1], ids=["first", "second"])
def test_a_damaged_group_of_pictures_costs_its_frames_alone(
    dicom: Opened, tmp_path: Path, streams: Path, at: int
) -> None:
    coded = bytearray(_stream(streams, "mpeg2", videodicoms.MOVING))
    groups = [n for n in range(len(coded) - 4) if coded[n : n + 4] == b"\0\0\x01\xb8"]
    picture = coded.index(b"\0\0\x01\x01", groups[at])  # the first slice of its I picture
    coded[picture + 40 : picture + 120] = b"\x5a" * 80
    path = write(tmp_path / "c.dcm", encapsulated([bytes(coded)]), syntax=MPEG2)
    source, _ = dicom(path)
    shown = list(told(source))
    bad = [one for one in shown if isinstance(one, str)]
    assert len(shown) == COUNT
    assert 1 <= len(bad) <= 5
    assert all("damaged" in one for one in bad)


def test_when_its_decoder_dies_the_clip_is_lost_in_words_and_the_next_file_goes_on(
    dicom: Opened, tmp_path: Path, streams: Path
) -> None:
    content = encapsulated([_stream(streams, "h264")])
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "1.dcm", content)
    dicoms.write(tmp_path / "in" / "2.dcm", dicoms.moving())
    write(tmp_path / "in" / "3.dcm", content)
    clock = HandClock()
    clock.now_us += 10**9
    source, _ = dicom(tmp_path / "in", clock=clock)
    first = next(told(source))
    assert isinstance(first, Frame)
    os.kill(_child_of(source), signal.SIGKILL)
    shown = list(told(source))
    bad = [one for one in shown if isinstance(one, str)]
    assert len(bad) == 1
    assert "the video decoder died (signal 9)" in bad[0]
    sizes = [one.pixels.shape[1::-1] for one in shown if isinstance(one, Frame)]
    assert sizes.count((32, 24)) == 5
    assert sizes.count(videodicoms.SIZE) >= COUNT


def test_a_single_file_whose_decoder_dies_is_lost(
    dicom: Opened, tmp_path: Path, streams: Path
) -> None:
    source, _ = dicom(write(tmp_path / "1.dcm", encapsulated([_stream(streams, "h264")])))
    os.kill(_child_of(source), signal.SIGKILL)
    with pytest.raises(SourceLost, match="decoder died"):
        list(told(source))


def test_frames_are_found_out_of_order_and_from_the_begin_again(
    tmp_path: Path, streams: Path
) -> None:
    path = write(
        tmp_path / "1.dcm", encapsulated([_stream(streams, "h264-mp4", videodicoms.MOVING)])
    )
    config = DicomSource(path=str(path))
    with contextlib.closing(VideoClip(Name(path=path, where="it"), config, KEY)) as clip:
        every = [clip.pixels(index) for index in range(clip.frames)]
        for index in (6, 7, 2, 9, 0):
            assert np.array_equal(clip.pixels(index), every[index])
        assert len({frame.tobytes() for frame in every}) == COUNT == clip.frames


def test_a_size_that_changes_costs_the_frames_of_the_other_size(
    dicom: Opened, tmp_path: Path, streams: Path
) -> None:
    other = videodicoms.PLAIN.replace("64x48", "96x64")
    coded = _stream(streams, "h264") + _stream(streams, "h264", other)
    source, _ = dicom(write(tmp_path / "c.dcm", encapsulated([coded]), frames=2 * COUNT))
    shown = list(told(source))
    assert all(isinstance(one, Frame) and _is_plain(one) for one in shown[:COUNT])
    bad = shown[COUNT:]
    assert len(bad) == COUNT
    assert all("expected 64 x 48 px, its stream changes to 96 x 64 px" in str(one) for one in bad)


@pytest.mark.parametrize("is_preallocated", [False, True])
def test_a_clip_that_is_still_being_copied_is_waited_for(
    dicom: Opened, tmp_path: Path, streams: Path, *, is_preallocated: bool
) -> None:
    coded = _stream(streams, "h264", videodicoms.MOVING)
    whole = write(tmp_path / "whole.dcm", encapsulated([coded])).read_bytes()
    folder = tmp_path / "in"
    folder.mkdir()
    path = folder / "clip.dcm"
    half = len(whole) // 2
    path.write_bytes(whole[:half] + (b"\0" * (len(whole) - half) if is_preallocated else b""))
    clock = HandClock()
    clock.now_us += 10**9
    source, _ = dicom(folder, clock=clock)
    assert not list(told(source, reads=20))
    path.write_bytes(whole)
    assert len(_frames(list(told(source, reads=200)))) == COUNT


def test_another_coding_than_the_header_says_is_told(
    dicom: Opened, tmp_path: Path, streams: Path
) -> None:
    path = write(tmp_path / "c.dcm", encapsulated([_stream(streams, "h264")]), syntax=MPEG2)
    source, facts = dicom(path)
    assert "coded as H.264, not MPEG-2" in facts.details["frames"]
    assert all(_is_plain(frame) for frame in _frames(list(told(source))))


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({"PhotometricInterpretation": "Irmgard"}, "YBR_PARTIAL_420, .*an unregistered value"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "got PALETTE COLOR"),
        ({"SamplesPerPixel": 1}, "3 samples per pixel, got 1"),
        ({"BitsAllocated": 16}, "8 bits allocated, got 16"),
        ({"Rows": 0}, "1 to 16384 px a side, got 64 x 0"),
    ],
)
def test_a_header_that_can_not_be_of_video_is_refused(
    dicom: Opened, tmp_path: Path, elements: dict[str, Any], words: str
) -> None:
    with pytest.raises(Rejected, match=words):
        dicom(write(tmp_path / "c.dcm", encapsulated([b"\0\0\x01"]), **elements))


def test_the_label_of_video_is_not_one_of_images(dicom: Opened, tmp_path: Path) -> None:
    label = {"PhotometricInterpretation": "YBR_PARTIAL_420"}
    with pytest.raises(Rejected, match="photometric interpretation"):
        dicom(dicoms.write(tmp_path / "c.dcm", dicoms.moving(), **label))


def test_without_an_ffmpeg_it_is_refused_with_the_way_out(
    dicom: Opened, tmp_path: Path, streams: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "c.dcm", encapsulated([_stream(streams, "h264")]))
    monkeypatch.setattr(usable(), "why", "it came without libavcodec")
    with pytest.raises(Rejected, match=r"got H\.264 \(it came without libavcodec\)") as refused:
        dicom(path)
    assert 'source of kind "video"' in str(refused.value.hint)


def test_closing_ends_the_decoder(dicom: Opened, tmp_path: Path, streams: Path) -> None:
    source, _ = dicom(write(tmp_path / "1.dcm", encapsulated([_stream(streams, "h264")])))
    pid = _child_of(source)
    source.close()
    assert not Path(f"/proc/{pid}").exists()


def _child_of(source: object) -> int:
    clip = vars(source)["_clip"]
    return int(vars(clip)["_decoder"].pid)
