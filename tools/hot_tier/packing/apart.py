"""Packing in a process of its own.

The parsers of ONNX are written in C++, and some files end the process that reads them: the child
then dies, and the person is told why. Its scratch files go with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.core.errors import EdgeAgentError, Rejected
from tools.hot_tier.packing.report import Options, Packed

ROOT = Path(__file__).resolve().parents[3]


class Answer(msgspec.Struct, kw_only=True):
    """Exactly one of both is there; refused: what, hint."""

    packed: Packed | None = None
    refused: tuple[str, str] | None = None


def pack_apart(options: Options) -> Packed:
    """Raises: Rejected; EdgeAgentError where the child failed by itself."""
    with tempfile.TemporaryDirectory(prefix="pack-") as scratch:
        paths = os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
        ended = subprocess.run(
            [sys.executable, "-m", "tools.hot_tier.packing.apart"],
            input=msgspec.json.encode(options, enc_hook=str),
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": paths.rstrip(os.pathsep), "TMPDIR": scratch},
            check=False,
        )
    if ended.returncode < 0:
        name = signal.Signals(-ended.returncode).name
        raise Rejected(
            f"pack model: reading or running {options.model.name} ended the process with {name}",
            hint="the file is damaged, or too large for this machine: export it again",
        )
    if ended.returncode:
        raise EdgeAgentError(f"pack model: its process failed with code {ended.returncode}")
    answer = msgspec.json.decode(ended.stdout, type=Answer)
    if answer.refused is not None:
        raise Rejected(answer.refused[0], hint=answer.refused[1])
    assert answer.packed is not None
    return answer.packed


def main() -> None:
    """The child: options in, an answer out."""
    from tools.hot_tier.packing.make import pack  # noqa: PLC0415 - needs onnx

    options = msgspec.json.decode(sys.stdin.buffer.read(), type=Options, dec_hook=_path)
    try:
        answer = Answer(packed=pack(options))
    except Rejected as error:
        answer = Answer(refused=(error.what, error.hint))
    sys.stdout.buffer.write(msgspec.json.encode(answer))


def _path(kind: type, value: Any) -> Any:
    return kind(value)


if __name__ == "__main__":
    main()
