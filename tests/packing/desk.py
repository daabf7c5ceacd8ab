"""A desk on which foreign models are packed, and the simplest model to put on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto

from edge_agent.core.errors import Rejected
from tests.packing import foreign
from tests.packing.foreign import SIZE, Net, head
from tools.hot_tier.packing.make import pack
from tools.hot_tier.packing.report import Options, Packed

IN = [("x", TensorProto.FLOAT, [1, 3, SIZE[1], SIZE[0]])]
SCALED = '[foreign]\nscale = "1/255"\n'


class Desk:
    """Packs whatever is put on it; what was refused has left nothing behind."""

    def __init__(self, folder: Path, frames: Path) -> None:
        self.folder, self.frames = folder, frames

    def pack(self, model: Any, manifest: str, **more: Any) -> Packed:
        file, asked = self.folder / "m.onnx", self.folder / "m.toml"
        content = model if isinstance(model, bytes) else model.SerializeToString()
        file.write_bytes(content)
        return self.pack_file(file, asked, manifest, **more)

    def pack_file(self, file: Path, asked: Path, manifest: str, **more: Any) -> Packed:
        asked.write_text(manifest)
        options: dict[str, Any] = {"frames": self.frames, "out": self.folder / "m.eam"} | more
        return pack(Options(model=file, manifest=asked, **options))

    def refuse(self, model: Any, manifest: str, **more: Any) -> Rejected:
        with pytest.raises(Rejected) as caught:
            self.pack(model, manifest, **more)
        assert not (self.folder / "m.eam").exists()
        assert caught.value.hint, "a refusal says what to do"
        return caught.value


def changed(name: str, old: str, new: str) -> str:
    manifest = foreign.MANIFESTS[name]
    assert old in manifest
    return manifest.replace(old, new)


def one_conv(net: Net | None = None, *, out: str = "y", wide: int = 4) -> Net:
    """A convolution of `x` into `out`."""
    net = net or Net()
    net.add("Identity", net.conv("x", 3, wide, stride=8), out=out)
    return net


MASK = '[input]\nfit = "stretch"\n' + SCALED + head("mask_sigmoid", "y", labels=foreign.ONE_LABEL)
MASK += "classes = 4\n"
OUT = [("y", TensorProto.FLOAT, [1, 4, 8, 12])]
