"""The sheet of frames: what was found stands where it is, on every frame that is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.cli import exits
from tests.packing import foreign
from tests.packing.desk import IN as DESK_IN
from tests.packing.desk import MASK, OUT, Desk, one_conv
from tests.packing.finder import box_finder, draw, wanted
from tests.packing.foreign import above
from tools.hot_tier.__main__ import main
from tools.hot_tier.packing.contact import COLUMNS, MAX_TILES, TILE_PX, TITLE_PX

SIZE = (320, 200)
BOX = (60, 40, 200, 120)
GREEN = (0x66, 0xCC, 0x22)  # BGR of a label without a colour


def read(path: str) -> NDArray[Any]:
    stored = cv2.imread(path)
    assert stored is not None
    return np.asarray(stored, np.int64)


def test_boxes_are_drawn_where_they_are_whatever_the_letterbox(desk: Desk, tmp_path: Path) -> None:
    frames = tmp_path / "seen"
    frames.mkdir()
    for index, box in enumerate([BOX, None]):
        draw(frames / f"f{index}.png", SIZE, box)
    for place in ("centre", "top_left"):
        file = tmp_path / f"{place}.png"
        packed = desk.pack(
            box_finder(), wanted(f'place = "{place}"\npad = 114\n'), frames=frames, picture=file
        )
        assert packed.picture == str(file)
        sheet = read(str(file))
        assert sheet.shape[1] == COLUMNS * TILE_PX, "two frames and the input"
        factor = TILE_PX / SIZE[0]
        tile = sheet[TITLE_PX : TITLE_PX + int(SIZE[1] * factor), :TILE_PX]
        rows, columns = np.nonzero(np.abs(tile - GREEN).max(axis=2) < 8)
        below = rows > BOX[1] * factor  # the words stand above the box
        edges = (columns[below].min(), columns.max(), rows.max())
        assert np.abs(np.subtract(edges, np.multiply((60, 200, 120), factor))).max() < 4
        nothing = sheet[TITLE_PX:, TILE_PX : 2 * TILE_PX]
        assert not (np.abs(nothing - GREEN).max(axis=2) < 8).any()


def test_masks_labels_and_a_region_are_drawn(desk: Desk, tmp_path: Path) -> None:
    plain, cut = tmp_path / "plain.png", tmp_path / "cut.png"
    model = one_conv(wide=4).model(DESK_IN, OUT)
    manifest = above("m") + MASK.replace("0.5", "0.1")
    desk.pack(model, manifest, picture=plain)
    desk.pack(model, manifest, picture=cut, roi=(10, 10, 60, 40))
    first, second = read(str(plain)), read(str(cut))
    assert first.shape == second.shape
    assert (first != second).any()


def test_a_sheet_has_a_bound_however_many_frames_there_are(desk: Desk, tmp_path: Path) -> None:
    frames = foreign.write_frames(tmp_path / "many", MAX_TILES + 8)
    desk.pack(
        foreign.recurrent(), foreign.MANIFESTS["recurrent"], frames=frames,
        picture=tmp_path / "sheet.png", half="no",
    )  # fmt: skip
    sheet = read(str(tmp_path / "sheet.png"))
    rows = -(-(MAX_TILES + 1) // COLUMNS)
    assert sheet.shape[0] == rows * (TITLE_PX + round(80 * TILE_PX / 120))


def test_a_picture_never_lies_among_the_frames(desk: Desk, frames: Path) -> None:
    model, manifest = one_conv(wide=4).model(DESK_IN, OUT), above("m") + MASK
    said = desk.refuse(model, manifest, picture=frames / "sheet.png")
    assert "the folder holds the frames, it would become one" in said.what
    assert not (frames / "sheet.png").exists()


@pytest.mark.parametrize("more", [[], ["--no-picture"]])
def test_the_command_draws_beside_the_package(
    more: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, manifest = foreign.write(tmp_path, "yolo")
    frames = foreign.write_frames(tmp_path / "frames", 2)
    words = ["pack", str(model), "--manifest", str(manifest), "--frames", str(frames)]
    assert main([*words, "-o", str(tmp_path / "y.eam"), "--no-fp16", *more]) == exits.OK
    assert (tmp_path / "y.png").exists() == (not more)
    assert (f"picture: {tmp_path}/y.png" in capsys.readouterr().out) == (not more)
