"""The pseudonym's key comes from the operator's file when there is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent import sources
from edge_agent.config.structs import DicomSource
from edge_agent.core.errors import ConfigError
from edge_agent.host import SystemClock

MINTED = b"m" * 32


def exam_of(config: DicomSource) -> str:
    source = sources.make(config, clock=SystemClock(), exam_key=MINTED)
    try:
        source.open()
        frame = source.read(1.0)
        assert frame is not None
        return frame.exam
    finally:
        source.close()


def sample(key_file: Path | None) -> DicomSource:
    name = None if key_file is None else str(key_file)
    return DicomSource(path="sample:ultrasound", pace="fast", exam_key_file=name)


def test_two_boxes_with_the_same_key_file_give_an_exam_the_same_name(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"k" * 32)
    assert exam_of(sample(key)) == exam_of(sample(key)) != exam_of(sample(None))


def test_a_key_that_is_missing_or_too_short_is_named(tmp_path: Path) -> None:
    key = tmp_path / "key"
    with pytest.raises(ConfigError, match="No such file"):
        exam_of(sample(key))
    key.write_bytes(b"short")
    with pytest.raises(ConfigError, match="has 5 B, expected 16 to 4096"):
        exam_of(sample(key))
