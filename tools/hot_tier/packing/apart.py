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
from tools.hot_tier.packing.report import Options, Packed, Proposed, Wanted

ROOT = Path(__file__).resolve().parents[3]


class Order(msgspec.Struct, kw_only=True):
    """Exactly one of both is there."""

    pack: Options | None = None
    propose: Wanted | None = None


class Answer(msgspec.Struct, kw_only=True):
    """Exactly one of them is there; refused: what, hint."""

    packed: Packed | None = None
    proposed: Proposed | None = None
    refused: tuple[str, str] | None = None


def pack_apart(options: Options) -> Packed:
    """Raises: Rejected; EdgeAgentError where the child failed by itself."""
    packed = _answer(Order(pack=options), options.model).packed
    assert packed is not None
    return packed


def propose_apart(wanted: Wanted) -> Proposed:
    """Raises: Rejected; EdgeAgentError where the child failed by itself."""
    proposed = _answer(Order(propose=wanted), wanted.model).proposed
    assert proposed is not None
    return proposed


def _answer(order: Order, model: Path) -> Answer:
    """Raises: Rejected, EdgeAgentError."""
    with tempfile.TemporaryDirectory(prefix="pack-") as scratch:
        paths = os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
        ended = subprocess.run(
            [sys.executable, "-m", "tools.hot_tier.packing.apart"],
            input=msgspec.json.encode(order, enc_hook=str),
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": paths.rstrip(os.pathsep), "TMPDIR": scratch},
            check=False,
        )
    if ended.returncode < 0:
        name = signal.Signals(-ended.returncode).name
        raise Rejected(
            f"pack model: reading or running {model.name} ended the process with {name}",
            hint="the file is damaged, or too large for this machine: export it again",
        )
    if ended.returncode:
        raise EdgeAgentError(f"pack model: its process failed with code {ended.returncode}")
    answer = msgspec.json.decode(ended.stdout, type=Answer)
    if answer.refused is not None:
        raise Rejected(answer.refused[0], hint=answer.refused[1])
    return answer


def main() -> None:
    """The child: an order in, an answer out."""
    from tools.hot_tier.packing.make import pack  # noqa: PLC0415 - needs onnx
    from tools.hot_tier.packing.proposing import propose  # noqa: PLC0415 - needs onnx

    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order, dec_hook=_path)
    try:
        if order.propose is not None:
            answer = Answer(proposed=propose(order.propose))
        else:
            assert order.pack is not None
            answer = Answer(packed=pack(order.pack))
    except Rejected as error:
        answer = Answer(refused=(error.what, error.hint))
    sys.stdout.buffer.write(msgspec.json.encode(answer))


def _path(kind: type, value: Any) -> Any:
    return kind(value)


if __name__ == "__main__":
    main()
