"""What a decoded 1080p frame costs: the decoder process against cv2.VideoCapture, in one run.

cpu_per_frame      CPU of child and parent for one frame of H.264 that was shown, and that of
                   cv2.VideoCapture as it was used before (grab and retrieve); rounds alternate.
cpu_ratio          median of the ratios of a round.
interlaced         the same for 1080i, which the older one shows with combs.
child_rss          of the decoder process at the end of a clip.
first_frame        from `open` to the first frame, the process included.
Makes its clips with ffmpeg; without it, it says so and prints nothing.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import cv2

from edge_agent.config.structs import VideoSource
from edge_agent.core.errors import SourceEnded
from edge_agent.host import SystemClock
from edge_agent.sources.video import VideoFrames
from tools.bench.common import Goal, Scale, arguments, figure, load, median, spread

BENCH = "video"
FPS = 30
TICKS = os.sysconf("SC_CLK_TCK")


class Run(NamedTuple):
    """cpu_ms: per frame, after the first. first_ms: until then. rss_mb: of the child."""

    cpu_ms: float
    first_ms: float
    rss_mb: float = 0.0


def main() -> int:
    scale = arguments(__doc__, full=Scale(8.0, 7), quick=Scale(2.0, 3))
    if shutil.which("ffmpeg") is None:
        print("needs ffmpeg to make its clips (sudo apt install ffmpeg)", file=sys.stderr)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        progressive(_clip(Path(folder) / "p.mp4", scale.seconds), scale)
        interlaced(_clip(Path(folder) / "i.mp4", scale.seconds, woven=True), scale)
    return 0


def _clip(path: Path, seconds: float, *, woven: bool = False) -> Path:
    graph = f"testsrc2=s=1920x1080:r={FPS * (1 + woven)}:d={seconds},noise=alls=6"
    words = ["-vf", "interlace=scan=tff"] if woven else []
    words += ["-c:v", "libx264", "-preset", "veryfast", "-b:v", "6M", "-pix_fmt", "yuv420p"]
    words += ["-flags", "+ilme+ildct"] if woven else []
    said = ["ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", graph, *words, str(path)]
    subprocess.run(said, check=True)
    return path


def progressive(clip: Path, scale: Scale) -> None:
    mine, old = _alternate(clip, scale)
    ratios = [a.cpu_ms / b.cpu_ms for a, b in zip(mine, old, strict=True)]
    runs = len(ratios)
    for name, found in (("", mine), ("_opencv", old)):
        values = [one.cpu_ms for one in found]
        notes = f"{spread(values)}; H.264 1080p, 6 Mbit/s; {load()}"
        figure(BENCH, f"cpu_per_frame{name}_ms", median(values), "ms", runs=runs, notes=notes)
    figure(BENCH, "cpu_ratio", median(ratios), "1", goal=Goal(at_most=1.1), runs=runs,
           notes=f"{spread(ratios)}; child and parent to cv2.VideoCapture")  # fmt: skip
    for name, found in (("", mine), ("_opencv", old)):
        values = [one.first_ms for one in found]
        figure(
            BENCH, f"first_frame{name}_ms", median(values), "ms", runs=runs, notes=spread(values)
        )
    values = [one.rss_mb for one in mine]
    figure(BENCH, "child_rss_mb", median(values), "MB", runs=runs,
           notes=f"{spread(values)}; RssAnon + RssFile, without the shared frames")  # fmt: skip


def interlaced(clip: Path, scale: Scale) -> None:
    mine, old = _alternate(clip, scale)
    for name, found in (("", mine), ("_opencv", old)):
        values = [one.cpu_ms for one in found]
        notes = f"{spread(values)}; H.264 1080i{', combs left in' if name else ''}"
        figure(BENCH, f"interlaced_cpu_per_frame{name}_ms", median(values), "ms",
               runs=len(values), notes=notes)  # fmt: skip


def _alternate(clip: Path, scale: Scale) -> tuple[list[Run], list[Run]]:
    both: tuple[Callable[[Path], Run], ...] = (_decoder, _opencv)
    found: tuple[list[Run], list[Run]] = ([], [])
    for turn in range(scale.rounds):
        for which in (0, 1) if turn % 2 else (1, 0):
            found[which].append(both[which](clip))
    return found


def _decoder(clip: Path) -> Run:
    source = VideoFrames(VideoSource(where=str(clip), pace="fast"), SystemClock())
    begun_s = time.perf_counter()
    source.open()
    child = _child()
    while source.read(10.0) is None:
        pass
    first_ms = 1e3 * (time.perf_counter() - begun_s)
    own_s, child_s, frames = _own(), _cpu(child), 0
    try:
        while True:
            frames += source.read(10.0) is not None
    except SourceEnded:
        cpu_s = _own() - own_s + _cpu(child) - child_s
        rss = _rss_mb(child)
    finally:
        source.close()
    return Run(1e3 * cpu_s / frames, first_ms, rss)


def _opencv(clip: Path) -> Run:
    begun_s = time.perf_counter()
    capture = cv2.VideoCapture(str(clip), cv2.CAP_FFMPEG)
    capture.grab()
    capture.retrieve()
    first_ms = 1e3 * (time.perf_counter() - begun_s)
    own_s, frames = _own(), 0
    while capture.grab():
        capture.retrieve()
        frames += 1
    cpu_s = _own() - own_s
    capture.release()
    return Run(1e3 * cpu_s / frames, first_ms)


def _own() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _child() -> int:
    tasks = Path("/proc/self/task").iterdir()
    return int(" ".join((task / "children").read_text() for task in tasks).split()[-1])


def _cpu(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / TICKS


def _rss_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    own = [line.split()[1] for line in lines if line.startswith(("RssAnon", "RssFile"))]
    return sum(map(int, own)) / 1024


if __name__ == "__main__":
    sys.exit(main())
