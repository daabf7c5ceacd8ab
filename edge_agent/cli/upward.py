"""What the report of a demo says of the road up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Fields = Mapping[str, Any]


def sums(status: Fields, far: Fields) -> dict[str, Any]:
    """lost: committed here, not given up here, and not at the hot tier. pending: still here.

    live_latency_ms: from result created to durable at the hot tier, of those that came live; n of
    them, `late` others waited in the spool.
    """
    spool, uplink = status["spool"], status["uplink"]
    given_up = spool["evicted"] + spool["corrupt"]
    received = int(far.get("received", 0))
    return {
        "records_spooled": spool["appended"],
        "records_received": received,
        "pending": spool["records"],
        "lost": max(0, spool["acked"] - received) if spool["records"] else
        spool["appended"] - given_up - received,
        "duplicates": far.get("duplicates", 0),
        "raw_bytes": uplink["raw_bytes"],
        "sent_bytes": uplink["sent_bytes"],
        "live_latency_ms": {**far.get("live_latency_ms", {}), "late": far.get("late", 0)},
    }  # fmt: skip


def words(report: Fields) -> list[str]:
    """A line for a person; none without a road."""
    if "records_spooled" not in report:
        return []
    raw, sent, live = report["raw_bytes"], report["sent_bytes"], report["live_latency_ms"]
    counts = [f"{report['records_spooled']} spooled", f"{report['records_received']} received"]
    if report["pending"]:
        counts.append(f"{report['pending']} still here")
    counts += [f"{report['lost']} lost", f"{report['duplicates']} doubled"]
    share = f"{sent / raw:.1%} of {raw:,} B JSON" if raw else "nothing"
    late = f"live p50 {live.get('p50')} p99 {live.get('p99')} ms"
    return [f"  hot tier    {', '.join(counts)}; sent {sent:,} B, {share}; {late}"]
