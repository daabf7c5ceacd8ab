"""The decoder process: what it is asked, what it gives, and that it always ends."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_agent.core.errors import Rejected, SourceLost
from edge_agent.core.upright import Turn
from edge_agent.decoder.process import (
    CLIP,
    WHOLE,
    Bad,
    Decoder,
    Ended,
    Opened,
    Order,
    Shown,
    Unusable,
    library_folder,
    within,
)


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    folder = library_folder()
    if folder is None:
        pytest.skip("OpenCV did not come as a wheel")
    made = Decoder(folder)
    yield made
    made.close()


def opened(decoder: Decoder, path: Path, address: str = WHOLE) -> Opened:
    with path.open("rb") as file:
        order = Order(address=address, live=False, settings={}, descriptor=file.fileno())
        return decoder.open(order, 20.0)


def every(decoder: Decoder) -> list[np.ndarray]:
    found = []
    while not isinstance(got := decoder.next(20.0), Ended):
        assert isinstance(got, Shown)
        found.append(decoder.pixels(got, Turn()))
        decoder.release(got)
    return found


def test_a_part_of_an_open_file_is_decoded_as_if_it_were_alone(
    decoder: Decoder, tmp_path: Path
) -> None:
    """A video inside of a DICOM file."""
    clip = CLIP.read_bytes()
    inside = tmp_path / "inside"
    inside.write_bytes(b"header " * 100 + clip + b"what follows" * 99)
    facts = opened(decoder, inside, within(700, len(clip)))
    assert (facts.codec, facts.width, facts.height, facts.whole) == ("h264", 64, 48, True)
    assert sorted(facts.stamps_us) == [0, 40_000, 80_000, 120_000]
    inside.unlink()
    for _ in range(2):
        frames = every(decoder)
        assert [frame.shape for frame in frames] == [(48, 64, 3)] * 4
        assert all(np.abs(frame.astype(int) - (30, 60, 200)).max() <= 3 for frame in frames)
        opened(decoder, CLIP)


def test_a_decoder_that_is_killed_is_a_lost_source_and_leaves_nothing(decoder: Decoder) -> None:
    opened(decoder, CLIP)
    os.kill(decoder.pid, signal.SIGKILL)
    with pytest.raises(SourceLost, match="died"):
        for _ in range(9):
            decoder.next(5.0)


def test_a_decoder_that_hangs_is_ended_in_a_moment(decoder: Decoder) -> None:
    opened(decoder, CLIP)
    os.kill(decoder.pid, signal.SIGSTOP)
    begun = time.monotonic()
    decoder.close()
    assert time.monotonic() - begun < 3.0
    assert not Path(f"/proc/{decoder.pid}").exists()


def test_a_decoder_ends_when_the_agent_is_gone(decoder: Decoder) -> None:
    opened(decoder, CLIP)
    decoder._line.close()
    assert decoder._process.wait(5.0) == 0


def test_what_it_is_told_is_in_no_argument_and_no_environment(decoder: Decoder) -> None:
    secret = "tcp://nurse:s3cret@127.0.0.1:9/x"
    with pytest.raises(SourceLost) as lost:
        decoder.open(Order(address=secret, live=True, settings={}), 20.0)
    assert "s3cret" not in str(lost.value)
    assert "127.0.0.1" not in str(lost.value)
    seen = Path(f"/proc/{decoder.pid}/cmdline").read_bytes()
    seen += Path(f"/proc/{decoder.pid}/environ").read_bytes()
    assert b"s3cret" not in seen


def test_a_frame_that_is_not_in_its_memory_is_refused(decoder: Decoder) -> None:
    opened(decoder, CLIP)
    frame = decoder.next(20.0)
    assert isinstance(frame, Shown)
    fields = {name: getattr(frame, name) for name in frame.__struct_fields__}
    for wrong in ({"slot": 99}, {"slot": -1}, {"height": 9999}, {"width": 65}, {"ring": 7}):
        with pytest.raises(SourceLost, match="not in its memory"):
            decoder.pixels(Shown(**{**fields, "stride": 192, **wrong}), Turn())


def test_what_is_no_video_is_refused_and_the_next_one_plays(
    decoder: Decoder, tmp_path: Path
) -> None:
    letter = tmp_path / "letter"
    for content in (b"", b"Dear colleague, " * 400, bytes(100_000)):
        letter.write_bytes(content)
        with pytest.raises(Rejected):
            opened(decoder, letter)
    opened(decoder, CLIP)
    assert len(every(decoder)) == 4


def test_libraries_of_another_licence_or_version_are_not_used(tmp_path: Path) -> None:
    """The FFmpeg of a distribution is built under the GPL."""
    with pytest.raises(Unusable, match="came without libavutil"):
        empty = Decoder(tmp_path)
        try:
            opened(empty, CLIP)
        finally:
            empty.close()
    system = sorted(Path("/usr/lib").glob("*/libavutil.so.*"))
    if not system:
        pytest.skip("no FFmpeg of the system")
    for part in ("avutil", "swresample", "swscale", "avcodec", "avformat"):
        for path in system[0].parent.glob(f"lib{part}.so.*"):
            (tmp_path / path.name).symlink_to(path)
    other = Decoder(tmp_path)
    try:
        with pytest.raises(Unusable, match=r"LGPL, got 'GPL|expected libav"):
            opened(other, CLIP)
    finally:
        other.close()


def test_a_clip_cut_anywhere_gives_no_wrong_colour(decoder: Decoder, tmp_path: Path) -> None:
    clip = CLIP.read_bytes()
    start = clip.index(b"mdat") + 4
    for at in range(start, start + 200, 25):
        torn = tmp_path / "torn.mp4"
        torn.write_bytes(clip[:at] + bytes(20) + clip[at + 20 :])
        try:
            opened(decoder, torn)
        except Rejected:
            continue
        while not isinstance(got := decoder.next(20.0), Ended):
            assert got is not None
            if not isinstance(got, Bad):
                pixels = decoder.pixels(got, Turn()).astype(int)
                assert np.abs(pixels - (30, 60, 200)).max() <= 3
                decoder.release(got)


def test_a_line_with_a_large_number_is_listened_to() -> None:
    """`select` takes no descriptor above 1023: the whole agent ended with a ValueError."""
    folder = library_folder()
    if folder is None:
        pytest.skip("OpenCV did not come as a wheel")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2048:
        pytest.skip("no limit of 2048 files here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    try:
        made = Decoder(folder)
        try:
            assert opened(made, CLIP).width == 64
            assert len(every(made)) == 4
        finally:
            made.close()
    finally:
        for one in held:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_decoder_is_what_the_kernel_ends_first(decoder: Decoder) -> None:
    opened(decoder, CLIP)
    assert Path(f"/proc/{decoder.pid}/oom_score_adj").read_text().strip() == "1000"
