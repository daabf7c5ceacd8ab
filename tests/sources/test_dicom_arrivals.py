"""Watched folders as modalities and copying programs fill them."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from PIL import Image
from pydicom import dcmread, uid
from pydicom.encaps import encapsulate

from edge_agent.config.structs import DicomSource
from edge_agent.core.errors import BadFrame, SourceLost
from edge_agent.core.frames import Frame
from edge_agent.host import SystemClock
from edge_agent.sources.dicom import DicomFrames
from edge_agent.sources.dicom.tree import MAX_DEPTH
from tests.sources import dicoms
from tests.sources.conftest import Opened
from tests.sources.hand import KEY, HandClock, told

LONG_AGO = (1_500_000_000, 1_500_000_000)
LEVELS = list(range(10, 101, 10))


def clip_of(levels: list[int], **elements: Any) -> bytes:
    """A native gray clip, each frame of one level."""
    pixels = np.stack([np.full((24, 32), level, np.uint8) for level in levels])
    return stored(dicoms.dataset(pixels, dicoms.EXPLICIT, **elements))


def jpeg_of(levels: list[int]) -> bytes:
    made = dicoms.dataset(np.zeros((len(levels), 24, 32), np.uint8), dicoms.EXPLICIT)
    pieces = []
    for level in levels:
        piece = io.BytesIO()
        Image.fromarray(np.full((24, 32), level, np.uint8)).save(piece, "JPEG", quality=95)
        pieces.append(piece.getvalue() + b"\0" * (len(piece.getvalue()) % 2))
    made.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
    made.PixelData = encapsulate(pieces, has_bot=False)
    made["PixelData"].is_undefined_length = True
    return stored(made)


def stored(made: Any) -> bytes:
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = uid.generate_uid()
    file = io.BytesIO()
    made.save_as(file, enforce_file_format=True)
    return file.getvalue()


def shown(source: DicomFrames, seconds: float) -> list[int | str]:
    """Levels of the frames and words of bad ones, of so many seconds of a clock in the hand."""
    found = told(source, reads=round(seconds * 10), timeout_s=0.1)
    return [round(float(one.pixels.mean())) if isinstance(one, Frame) else one for one in found]


# ── what lies beside clips, and below ─────────────────────────────────────────────────────────


def report(path: Path, sop_class: str) -> None:
    made = dcmread(io.BytesIO(clip_of([1])))
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = uid.UID(sop_class)
    for keyword in ("PixelData", "Rows", "Columns", "BitsAllocated", "NumberOfFrames"):
        delattr(made, keyword)
    made.save_as(path, enforce_file_format=True)


def test_what_is_no_clip_is_counted_apart_and_never_an_error(dicom: Opened, tmp_path: Path) -> None:
    (tmp_path / "IM0001").write_bytes(clip_of([60, 70]))
    for name, kind in (
        ("DICOMDIR", uid.MediaStorageDirectoryStorage),
        ("SR0001", uid.BasicTextSRStorage),
        ("PR0001", uid.GrayscaleSoftcopyPresentationStateStorage),
        ("RS0001", uid.RTStructureSetStorage),
        ("PDF001", uid.EncapsulatedPDFStorage),
        ("report.dcm", uid.ComprehensiveSRStorage),
    ):
        report(tmp_path / name, kind)
    (tmp_path / "VERSION").write_text("1.0\n")
    (tmp_path / "README.TXT").write_text("hello")
    (tmp_path / "REPORT.PDF").write_bytes(b"%PDF-1.4\n\0\0")
    (tmp_path / "viewer.exe").write_bytes(b"MZ\0\0" * 99)
    (tmp_path / "COMPLETE").touch()
    (tmp_path / "next.dcm.tmp").write_bytes(clip_of([99])[:700])
    (tmp_path / ".hidden").write_bytes(clip_of([98]))
    source, facts = dicom(tmp_path)
    assert shown(source, 30) == [60, 70]
    facts = source.news() or facts
    assert facts.details["files"] == "1 in the watched folder"
    assert facts.details["other files"].startswith("12, ")
    assert (source.files_bad, source.problems, facts.troubles) == (0, [], ())


def test_a_binary_file_without_a_name_of_its_own_may_be_a_clip_and_is_told(
    dicom: Opened, tmp_path: Path
) -> None:
    raw = clip_of([10])
    (tmp_path / "IM0001").write_bytes(b"garbage\0" * 8 + raw[64:128] + b"XXXX" + raw[132:])
    source, _ = dicom(tmp_path)
    (bad,) = shown(source, 30)
    assert "expected a DICOM file, got something else" in str(bad)


def test_clips_in_folders_below_are_found_and_links_are_not_followed(
    dicom: Opened, tmp_path: Path
) -> None:
    deep = tmp_path / "watched" / "P1" / "S1"
    deep.mkdir(parents=True)
    (deep / "IM10").write_bytes(clip_of([50]))
    (deep / "IM9").write_bytes(clip_of([40]))
    (tmp_path / "watched" / "a.dcm").write_bytes(clip_of([60]))
    (deep / "loop").symlink_to(tmp_path / "watched")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.dcm").write_bytes(clip_of([99]))
    (deep / "away").symlink_to(tmp_path / "elsewhere")
    (deep / "linked.dcm").symlink_to(deep / "IM10")
    source, facts = dicom(tmp_path / "watched")
    assert (facts.details["folders"], facts.details["links"]) == (
        "2 below it", "2 to folders, not followed",
    )  # fmt: skip
    assert shown(source, 5) == [60, 40, 50, 50] or shown(source, 5) == [40, 50, 50, 60]
    new = tmp_path / "watched" / "P2" / "S7"
    new.mkdir(parents=True)
    (new / "IM1").write_bytes(clip_of([70]))
    assert shown(source, 5) == [70], "a folder that comes later"


def test_a_folder_that_is_too_deep_is_a_trouble(dicom: Opened, tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*"abcdefghijk")
    deep.mkdir(parents=True)
    assert len("abcdefghijk") > MAX_DEPTH
    (deep / "IM1").write_bytes(clip_of([70]))
    _, facts = dicom(tmp_path)
    (trouble,) = facts.troubles
    assert trouble.code == "files-unseen"
    assert f"more than {MAX_DEPTH} folders deep" in trouble.what


def test_names_of_any_bytes_are_names(dicom: Opened, tmp_path: Path) -> None:
    for name, level in ((b"\xfcber.dcm", 60), (b"a\nb\x07.dcm", 50), (b"\xff\xfe", 70)):
        (Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))).write_bytes(clip_of([level] * 2))
    source, facts = dicom(tmp_path)
    assert sorted(shown(source, 5)) == [50, 50, 60, 60, 70, 70]
    assert facts.details["files"] == "3 in the watched folder"


def test_new_files_come_in_the_order_in_which_they_came(dicom: Opened, tmp_path: Path) -> None:
    for name, level in (("im10", 30), ("im9", 20), ("im1", 10)):
        (tmp_path / name).write_bytes(clip_of([level]))
    source, _ = dicom(tmp_path, pace="real", fps=1.0)
    assert shown(source, 1.0) == [10]
    (tmp_path / "im0").write_bytes(clip_of([40]))
    assert shown(source, 10) == [20, 30, 40], "those that were there first go on in their order"


def test_what_comes_does_not_wait_for_a_long_row_of_old_files(
    dicom: Opened, tmp_path: Path
) -> None:
    for number in range(200):
        (tmp_path / f"old{number:03}").write_bytes(clip_of([number % 50 + 1]))
    source, _ = dicom(tmp_path, pace="real", fps=10.0)
    assert shown(source, 1.5)[:3] == [1, 2, 3]
    (tmp_path / "z new").write_bytes(clip_of([99]))
    assert 99 in shown(source, 1.5)
    rest = shown(source, 30)
    assert len(rest) > 150
    assert rest == [(49 - number) % 50 + 1 for number in range(len(rest))][::-1], "in their order"


def test_a_file_that_is_old_is_seen_to_change_and_costs_nothing_until_then(
    dicom: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "old.dcm"
    path.write_bytes(clip_of([10]))
    source, _ = dicom(tmp_path)
    assert shown(source, 70) == [10]
    listed, real = [], os.scandir

    def scandir(at: Path) -> Any:
        listed.append(at)
        return real(at)

    monkeypatch.setattr(os, "scandir", scandir)
    assert shown(source, 25) == []
    assert len(listed) <= 1, "its folder has not changed"
    path.write_bytes(clip_of([20]))
    assert shown(source, 40) == [20]


@pytest.mark.timeout(60)
def test_of_too_many_files_the_newest_are_shown_and_a_trouble_names_the_bound(
    dicom: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.sources.dicom.folder.MAX_FILES", 20)
    for number in range(50):
        path = tmp_path / f"im{number}"
        path.write_bytes(clip_of([number]))
        os.utime(path, (1_500_000_000 + number, 1_500_000_000 + number))
    source, facts = dicom(tmp_path, clock=SystemClock())
    (trouble,) = facts.troubles
    assert (trouble.code, trouble.severity) == ("files-unseen", "warning")
    assert "30 files that are older than the newest 20" in trouble.what
    assert shown(source, 2) == list(range(30, 50))
    (tmp_path / "a new one").write_bytes(clip_of([99]))
    frames = [one for one in told(source, reads=20) if isinstance(one, Frame)]
    assert [round(float(frame.pixels.mean())) for frame in frames] == [99]


# ── files that are being written ──────────────────────────────────────────────────────────────

Step = Callable[[Path, bytes], None]


def whole(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def full_size(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.truncate(len(content))


def full_size_with_a_start(path: Path, content: bytes) -> None:
    filled_up_to(len(content) // 4)(path, content)


def filled_up_to(at: int) -> Step:
    def step(path: Path, content: bytes) -> None:
        path.write_bytes(content[:at] + b"\0" * (len(content) - at))

    return step


def filled_from_its_end(path: Path, content: bytes) -> None:
    """As parts of a file that come over several connections do."""
    pixels_at = len(content) - 10 * 768
    empty = b"\0" * 3 * 768
    path.write_bytes(content[:pixels_at] + empty + content[pixels_at + len(empty) :])


def with_a_hole(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content[:1000])
        file.seek(len(content) - 300)
        file.write(content[-300:])


def cut_at(at: int) -> Step:
    def step(path: Path, content: bytes) -> None:
        path.write_bytes(content[:at])

    return step


@pytest.mark.parametrize("coding", [clip_of, jpeg_of])
@pytest.mark.parametrize(
    "begin",
    [
        *(
            whole,
            full_size,
            full_size_with_a_start,
            filled_from_its_end,
            cut_at(0),
            cut_at(60),
            cut_at(140),
        ),
        *(cut_at(600), cut_at(1500), cut_at(-1), cut_at(-9), cut_at(-800)),
        *(filled_up_to(20), filled_up_to(140), filled_up_to(700), filled_up_to(2000)),
    ],
)
@pytest.mark.parametrize("pause_s", [0.3, 0.7, 5.0, 9.0])
def test_a_file_is_shown_when_it_is_all_there_and_once(
    dicom: Opened, tmp_path: Path, coding: Callable[[list[int]], bytes], begin: Step, pause_s: float
) -> None:
    content = coding(LEVELS)
    source, _ = dicom(tmp_path)
    path = tmp_path / "clip.dcm"
    begin(path, content)
    early = shown(source, pause_s)
    path.write_bytes(content)
    later = shown(source, 30)
    assert early + later == LEVELS
    assert begin is whole or not early
    assert source.files_bad == 0


def test_a_black_end_is_shown_when_nothing_was_written_for_long(
    dicom: Opened, tmp_path: Path
) -> None:
    source, _ = dicom(tmp_path)
    (tmp_path / "clip.dcm").write_bytes(clip_of([50, 60, 0, 0]))
    assert shown(source, 8) == []
    assert (source.news() or source._facts()).details["waiting files"].startswith("1, ")
    assert shown(source, 8) == [50, 60, 0, 0]
    assert source._facts().details["doubt"].startswith("some of its frames are empty; shown, ")


def test_what_stood_still_for_too_long_goes_on_behind_the_frames_that_were_there(
    dicom: Opened, tmp_path: Path
) -> None:
    path, content = tmp_path / "clip.dcm", clip_of(LEVELS)
    source, _ = dicom(tmp_path)
    filled_up_to(len(content) - 6 * 768)(path, content)
    assert shown(source, 9) == []
    assert shown(source, 9) == [*LEVELS[:4], *[0] * 6], "black, and said so"
    path.write_bytes(content)
    assert shown(source, 20) == LEVELS[4:]
    path.write_bytes(clip_of([1, 2, 3]))
    assert shown(source, 20) == [1, 2, 3]


def test_a_black_end_that_is_old_is_shown_at_first_sight(dicom: Opened, tmp_path: Path) -> None:
    path = tmp_path / "clip.dcm"
    path.write_bytes(clip_of([50, 60, 0, 0]))
    os.utime(path, LONG_AGO)
    source, _ = dicom(tmp_path, clock=SystemClock())
    assert len(list(told(source, reads=4))) == 4


def test_a_file_that_stays_cut_off_is_told_once_and_no_more_when_it_is_whole(
    dicom: Opened, tmp_path: Path
) -> None:
    content = clip_of(LEVELS)
    source, _ = dicom(tmp_path)
    path = tmp_path / "clip.dcm"
    path.write_bytes(content[:3000])
    (bad,) = shown(source, 40)
    assert "the file is cut off or damaged" in str(bad)
    facts = source._facts()
    assert (source.files_bad, facts.details["bad files"][:12]) == (1, "1, the last:")
    path.write_bytes(content)
    assert shown(source, 20) == LEVELS
    assert (source.files_bad, source.problems) == (0, [])
    assert "bad files" not in source._facts().details, "the reason goes away"


def test_a_bad_file_that_is_taken_away_is_no_reason_any_more(dicom: Opened, tmp_path: Path) -> None:
    (tmp_path / "clip.dcm").write_text("no such thing")
    source, _ = dicom(tmp_path)
    assert len(shown(source, 20)) == 1
    (tmp_path / "clip.dcm").unlink()
    assert shown(source, 5) == []
    assert source.files_bad == 0


@pytest.mark.parametrize("pace", ["fast", "real"])
def test_a_file_that_is_touched_or_moved_is_not_shown_again(
    dicom: Opened, tmp_path: Path, pace: str
) -> None:
    path = tmp_path / "clip.dcm"
    path.write_bytes(clip_of(LEVELS))
    source, _ = dicom(tmp_path, pace=pace)
    assert shown(source, 5) == LEVELS
    path.touch()
    assert shown(source, 20) == []
    path.rename(tmp_path / "other.dcm")
    assert shown(source, 20) == []
    (tmp_path / "sub").mkdir()
    shutil.copy(tmp_path / "other.dcm", tmp_path / "sub" / "moved.dcm")
    (tmp_path / "other.dcm").unlink()
    assert shown(source, 20) == [], "moved from another file system"
    (tmp_path / "sub" / "moved.dcm").write_bytes(clip_of([7, 8]))
    assert shown(source, 20) == [7, 8], "another content is another clip"


def test_a_file_that_is_touched_or_written_again_while_it_is_shown_goes_on_where_it_was(
    dicom: Opened, tmp_path: Path
) -> None:
    path, content = tmp_path / "clip.dcm", clip_of(LEVELS)
    path.write_bytes(content)
    source, _ = dicom(tmp_path, pace="real", fps=2.0)
    first = shown(source, 2.0)
    assert 0 < len(first) < 9
    path.touch()
    then = shown(source, 1.0)
    path.write_bytes(content[:5000])
    rest = shown(source, 1.0)
    path.write_bytes(content)
    assert first + then + rest + shown(source, 20) == LEVELS


def test_frames_of_two_contents_are_never_mixed(dicom: Opened, tmp_path: Path) -> None:
    path = tmp_path / "clip.dcm"
    path.write_bytes(clip_of(LEVELS))
    source, _ = dicom(tmp_path, pace="real", fps=2.0)
    first = shown(source, 2.0)
    path.write_bytes(clip_of([level + 100 for level in LEVELS]))
    assert shown(source, 20)[-10:] == [level + 100 for level in LEVELS]
    assert first == LEVELS[: len(first)]


def test_a_stick_that_is_pulled_and_put_back_is_not_shown_again(
    dicom: Opened, tmp_path: Path
) -> None:
    """The folder stays: it is the mount point."""
    folder = tmp_path / "mount"
    folder.mkdir()
    for name, level in (("a", 10), ("b", 20)):
        (folder / name).write_bytes(clip_of([level]))
    source, _ = dicom(folder)
    assert shown(source, 3) == [10, 20]
    for name in "ab":
        (folder / name).rename(tmp_path / name)
    assert shown(source, 5) == []
    for name in "ab":
        (tmp_path / name).rename(folder / name)
    (folder / "c").write_bytes(clip_of([30]))
    assert shown(source, 20) == [30]


def test_a_source_that_is_lost_and_opened_again_goes_on_after_what_it_has_shown(
    dicom: Opened, tmp_path: Path
) -> None:
    """Any error of reading opened the whole folder again, from its first file."""
    folder = tmp_path / "usb"
    folder.mkdir()
    for name, level in (("a", 10), ("b", 20), ("c", 30)):
        (folder / name).write_bytes(clip_of([level, level + 1]))
    source, _ = dicom(folder, pace="real", fps=1.0)
    first = shown(source, 2.0)
    folder.rename(tmp_path / "unplugged")
    (tmp_path / "unplugged" / "b").unlink()
    with pytest.raises(SourceLost):
        shown(source, 10)
    source.close()
    (tmp_path / "unplugged").rename(folder)
    source.open()
    later = shown(source, 20)
    assert [*first, *later][-2:] == [30, 31]
    assert len({*first, *later}) == len([*first, *later]), "nothing twice"


@pytest.mark.parametrize("is_touched", [False, True])
def test_a_file_that_was_renamed_and_another_put_under_its_name_shows_nothing_twice(
    dicom: Opened, tmp_path: Path, is_touched: bool
) -> None:
    source, _ = dicom(tmp_path)
    (tmp_path / "a.dcm").write_bytes(clip_of([5]))
    assert shown(source, 5) == [5]
    (tmp_path / "a.dcm").rename(tmp_path / "b.dcm")
    (tmp_path / "a.dcm").write_bytes(clip_of([9, 10]))
    if is_touched:
        (tmp_path / "b.dcm").touch()
    assert shown(source, 20) == [9, 10]


# ── any order of events ───────────────────────────────────────────────────────────────────────


class AnyFolder(RuleBasedStateMachine):
    """Files that come, grow, are renamed, touched, replaced and deleted, while the source runs.

    Each content is one level, all of whose frames are 1 to 4 numbers; so a frame tells which clip,
    and which of its frames, it is.
    """

    NAMES = st.sampled_from(["a.dcm", "b.dcm", "s/c.dcm", "s/t/d.dcm"])

    @initialize()
    def begin(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="any-folder-"))
        (self.root / "s" / "t").mkdir(parents=True)
        self.clock = HandClock()
        config = DicomSource(path=str(self.root), pace="fast")
        self.source = DicomFrames(config, self.clock, KEY)
        self.source.open()
        self.count = 0
        self.on_disk: dict[str, tuple[bytes, int]] = {}  # what will be there, bytes there now
        self.stalled: dict[str, int | None] = {}  # since when zeros end it
        self.frames: dict[bytes, list[int]] = {}
        self.seen: list[int] = []

    def new(self) -> bytes:
        frames = self.count % 3 + 1
        levels = [5 + self.count * 4 % 240 + number for number in range(frames)]
        self.count += 1
        content = clip_of(levels)
        self.frames[content] = levels
        return content

    def put(self, name: str, content: bytes, length: int, *, zeros: bool = False) -> None:
        padding = b"\0" * (len(content) - length) if zeros else b""
        (self.root / name).write_bytes(content[:length] + padding)
        self.on_disk[name] = content, length
        self.stalled[name] = self.clock.now_us if zeros else None

    @rule(name=NAMES)
    def create(self, name: str) -> None:
        content = self.new()
        self.put(name, content, len(content))

    @rule(name=NAMES, share=st.floats(0, 1), zeros=st.booleans())
    def write_a_part(self, name: str, share: float, zeros: bool) -> None:
        content = self.new()
        length = min(round(share * len(content)), len(content) - 769)  # a frame lacks at least
        self.put(name, content, length, zeros=zeros)

    @rule(name=NAMES, share=st.floats(0, 1))
    def append(self, name: str, share: float) -> None:
        if name in self.on_disk:
            content, length = self.on_disk[name]
            if length < len(content):
                longer = length + round(share * (len(content) - length))
                is_whole = longer > len(content) - 769
                self.put(name, content, len(content) if is_whole else longer)

    @rule(name=NAMES)
    def finish(self, name: str) -> None:
        if name in self.on_disk:
            content, _ = self.on_disk[name]
            self.put(name, content, len(content))

    @rule(name=NAMES)
    def touch(self, name: str) -> None:
        if name in self.on_disk:
            (self.root / name).touch()

    @rule(name=NAMES, to=NAMES)
    def rename(self, name: str, to: str) -> None:
        if name in self.on_disk and name != to:
            (self.root / name).rename(self.root / to)
            self.on_disk[to] = self.on_disk.pop(name)
            self.stalled[to] = self.stalled.pop(name)

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        if self.on_disk.pop(name, None):
            del self.stalled[name]
            (self.root / name).unlink()

    def go_on(self) -> None:
        """Who leaves zeros for longer than our patience gets them shown: here nobody does."""
        for name, since_us in list(self.stalled.items()):
            if since_us is not None and self.clock.now_us - since_us > 9_000_000:
                self.finish(name)

    @rule(tenths=st.integers(1, 90))
    def run(self, tenths: int) -> None:
        for _ in range(tenths):
            self.go_on()
            try:
                frame = self.source.read(0.1)
            except BadFrame:
                continue
            if frame is not None:
                self.seen.append(round(float(frame.pixels.mean())))

    @invariant()
    def nothing_is_black_or_twice(self) -> None:
        if getattr(self, "seen", None):
            assert 0 not in self.seen
            assert len(self.seen) == len(set(self.seen)) or self.count > 60

    def teardown(self) -> None:
        if not hasattr(self, "source"):
            return
        for _ in range(700):
            self.run(1)
        for content, length in self.on_disk.values():
            if length == len(content):
                levels = self.frames[content]
                at = self.seen.index(levels[0])
                assert set(levels) <= set(self.seen[at:])
        for levels in self.frames.values():
            mine = [level for level in self.seen if level in levels]
            assert mine == levels[: len(mine)], "in order, each once"
        self.source.close()
        shutil.rmtree(self.root)


TestAnyFolder = AnyFolder.TestCase
TestAnyFolder.settings = settings(
    max_examples=25,
    stateful_step_count=14,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
