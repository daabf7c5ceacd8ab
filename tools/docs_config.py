"""Writes docs/config.md from the Structs and their words: `.venv/bin/python tools/docs_config.py`.

`--check` writes nothing and ends with 1 when the page is not current.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from edge_agent.config import structs
from edge_agent.config.fields import expected
from edge_agent.config.render import value_as_toml
from edge_agent.config.words import words_of

PAGE = Path(__file__).resolve().parent.parent / "docs" / "config.md"

HEAD = """\
# Configuration

*Made by `tools/docs_config.py` from `edge_agent/config/structs.py` and `words.py`; change those.*

The agent reads `/etc/edge-agent/config.toml`, then every `*.toml` in `config.d/` beside it in the
order of their names, then each `--set section.key=value` of the command line. Tables are merged;
anything else is replaced, the later wins. `--config FILE` takes another file, and the folder of the
same name that ends in `.d` with it. Nothing is read from the environment. At most 64 files of at
most 1 MiB each. Models run on the CPU only today, and it is not a cleared medical device.

| to | type |
|---|---|
| begin, with a commented file fitted to this machine | `edge-agent init` |
| see everything that is wrong, with file and line | `edge-agent config check` |
| see what is in effect, defaults included, passwords masked | `edge-agent config show` |
| read a commented sample | `edge-agent config sample ultrasound` |
| get the JSON Schema for an editor | `edge-agent config schema` |
| apply a change to the running agent | `systemctl reload edge-agent`, or SIGHUP |

`config check` ends with 0 when all is well, 3 when something is wrong, 4 when there are only
warnings. A reload with a wrong file changes nothing: the agent goes on with what it has and says
what is wrong. A start with a wrong file runs the last configuration that was sound, which the agent
keeps in its `state_dir`, and reports itself degraded.

Names of streams, models and nodes are 1 to 63 of `a-z`, `0-9` and `-`, and do not begin with `-`;
what people read goes into `title` and `room`, in any script. Passwords stand in files of their own
(`password_file`). One that stands in a URL works, gives a warning, and is masked wherever the
configuration is shown.

"A name" in the tables below is such a name. A key without a default that is not marked *required*
is simply not set.
"""

SECTIONS = (
    ("At the top of the file", "", structs.Config),
    ("A stream", "[streams.NAME]", structs.StreamConfig),
    ("Its source, of any kind", "[streams.NAME.source]", structs.SourceBase),
    ("Source `dicom`", "", structs.DicomSource),
    ("Source `video`", "", structs.VideoSource),
    ("Source `images`", "", structs.ImagesSource),
    ("Source `phantom`", "", structs.PhantomSource),
    ("Its models, one to four", "[[streams.NAME.models]]", structs.StreamModel),
    ("Inference", "[engine]", structs.EngineConfig),
    ("Models", "[models]", structs.ModelsConfig),
    ("Results that wait", "[spool]", structs.SpoolConfig),
    ("The road to the cloud", "[uplink]", structs.UplinkConfig),
    ("Models that come down", "[rollouts]", structs.RolloutsConfig),
    ("Console and metrics", "[console]", structs.ConsoleConfig),
    ("Failing parts", "[supervise]", structs.SuperviseConfig),
    ("Log", "[log]", structs.LogConfig),
)


def page() -> str:
    """The whole page."""
    return HEAD + "\n".join(line for section in SECTIONS for line in _section(*section)) + "\n"


def _section(title: str, header: str, kind: type[msgspec.Struct]) -> Iterator[str]:
    yield f"\n## {title}\n"
    if header:
        yield f"`{header}`\n"
    yield "| key | takes | default | meaning |"
    yield "|---|---|---|---|"
    if kind is structs.SourceBase:
        yield (
            "| `kind` | one of `dicom`, `video`, `images`, `phantom` | *required* | Each kind has "
            "further keys, below. |"
        )
    known = inspect.type_info(kind)
    assert isinstance(known, inspect.StructType)
    base = set(structs.SourceBase.__struct_fields__)
    is_source = issubclass(kind, structs.SourceBase) and kind is not structs.SourceBase
    for field in known.fields:
        if is_source and field.name in base:
            continue
        yield _row(kind, field)


def _row(kind: type[msgspec.Struct], field: inspect.Field) -> str:
    takes = re.sub(r'"([^"]+)"', r"`\1`", _takes(field.type))
    meaning = words_of(kind, field.name)
    return f"| `{field.name}` | {takes} | {_default(field)} | {meaning} |"


def _takes(kind: inspect.Type) -> str:
    words = expected(kind)
    words = words.replace("a name: 1 to 63 of a-z, 0-9 and -, the first no -", "a name")
    return words.replace("text of at most 4096 characters", "text").replace('""', "nothing")


def _default(field: inspect.Field) -> str:
    value: Any = field.default
    if field.default_factory is not msgspec.NODEFAULT:
        return ""
    if field.required:
        return "*required*"
    if value is None or isinstance(value, msgspec.Struct):
        return ""
    return f"`{value_as_toml(value)}`"


def main() -> int:
    """Exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    if parser.parse_args().check:
        is_current = PAGE.exists() and PAGE.read_text("utf-8") == page()
        print("docs/config.md is current" if is_current else f"run: {__file__}")
        return 0 if is_current else 1
    PAGE.write_text(page(), "utf-8")
    print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
