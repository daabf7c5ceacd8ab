"""The commented sample configurations, and one fitted to this machine. Pure but for reading them.

They stand in `config/` of a checkout and in `_data/config/` of a wheel.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from edge_agent.config.problems import quoted
from edge_agent.core.errors import ConfigError

USES: Final = {
    "ultrasound": "ultrasound-cart",
    "endoscopy": "endoscopy-tower",
    "demo": "demo",
}
MAX_BYTES: Final = 1 << 20


def folder() -> Path:
    """Where the samples are."""
    package = Path(__file__).resolve().parent.parent
    shipped = package / "_data" / "config"
    return shipped if shipped.is_dir() else package.parent / "config"


def names() -> tuple[str, ...]:
    """Of every sample, sorted."""
    return tuple(sorted(path.stem for path in folder().glob("*.toml")))


def sample(name: str) -> str:
    """The text of a sample, by its name or its use (`ultrasound`).

    Raises: ConfigError.
    """
    chosen = USES.get(name, name)
    if chosen not in names():
        raise ConfigError(
            "",
            f"no sample {quoted(name)} (expected one of {', '.join(names())})",
            hint="edge-agent config sample",
        )
    with (folder() / f"{chosen}.toml").open("rb") as file:
        return file.read(MAX_BYTES).decode()


def fitted(text: str, *, node: str, port: int, cameras: Sequence[str]) -> str:
    """A sample with the name, the free port and the first camera of this machine filled in."""
    text = re.sub(r'^#? ?node = ".*"', f"node = {quoted(node)}", text, count=1, flags=re.MULTILINE)
    text = re.sub(r"^port = [1-9]\d*", f"port = {port}", text, count=1, flags=re.MULTILINE)
    if cameras:
        where = f"where = {quoted(cameras[0])}"
        text = re.sub(r'^where = "/dev/[^"]*"', where, text, count=1, flags=re.MULTILINE)
    return text
