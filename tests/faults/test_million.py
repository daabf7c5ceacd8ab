"""`tools/faults million`, with a tenth of it; the million is measured by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.faulting.million import million

pytestmark = pytest.mark.anyio
RECORDS = 100_000


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_full_spool_opens_at_once_after_a_kill_and_empties_with_a_short_log(
    tmp_path: Path,
) -> None:
    found = await million(tmp_path, RECORDS)
    assert found["ok"], found
    assert found["reopen_ms"] < 2000
    assert found["wal_bytes_max"] <= 8 << 20
    assert found["acked"] >= RECORDS
