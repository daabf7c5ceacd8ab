from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge_agent.core.frames import DROPS, Result
from edge_agent.host import SystemClock
from edge_agent.metrics import BUCKETS_S, Histogram, Metrics

STATUS: dict[str, Any] = {
    "state": "degraded",
    "level": 0,
    "streams": {
        "us0": {
            "state": "ok",
            "captured": 100,
            "inferred": 97,
            "dropped": {"late": 2, "error": 1},
            "frozen": 4,
            "fps_expected": 30.0,
            "last_frame_age_ms": 12.0,
            "reopened": 1,
        },
        "endo": {
            "state": "no_signal",
            "captured": 0,
            "inferred": 0,
            "dropped": {},
            "last_frame_age_ms": None,
        },
    },
    "models": {"us-chamber": {"active": "1.1.0", "sha": "ab" * 8, "backend": "onnx"}},
    "spool": {"records": 5, "bytes": 700, "limit_bytes": 1000, "appended": 5, "acked": 0},
    "engine": {"starts": 3},
    "device": {"memory_total_bytes": 1 << 30, "temperature_celsius": {"cpu": 48.5}},
    "problems": [
        {"severity": "critical", "code": "source-lost", "stream": "endo", "what": "x", "fix": "y"}
    ],
}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(clock=SystemClock(), version="0.1.0", backend="onnx")


def samples(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, f"twice: {key}"
            found[key] = sample.value
    return found


def value(text: bytes, name: str, **labels: str) -> float | None:
    return samples(text).get((f"edge_agent_{name}", tuple(sorted(labels.items()))))


def result(**fields: Any) -> Result:
    return Result(node="n", stream="us0", captured_us=1_000_000, **fields)


@pytest.mark.parametrize(("state", "up", "idle"), [("ok", 1, 0), ("idle", 1, 1), ("stale", 0, 0)])
def test_an_idle_stream_is_up_and_called_idle(
    metrics: Metrics, state: str, up: int, idle: int
) -> None:
    text = metrics.render({**STATUS, "streams": {"us0": {"state": state}}})
    assert value(text, "stream_up", stream="us0") == up
    assert value(text, "stream_idle", stream="us0") == idle


def test_a_scrape_renders_what_the_status_says(metrics: Metrics) -> None:
    text = metrics.render(STATUS)
    assert value(text, "ready") == 1
    assert value(text, "stream_up", stream="us0") == 1
    assert value(text, "stream_up", stream="endo") == 0
    assert value(text, "frames_captured_total", stream="us0") == 100
    assert value(text, "frames_inferred_total", stream="us0") == 97
    assert value(text, "frames_frozen_total", stream="us0") == 4
    assert value(text, "stream_reconnects_total", stream="us0") == 1
    assert value(text, "stream_expected_frames_per_second", stream="us0") == 30
    assert value(text, "stream_expected_frames_per_second", stream="endo") is None
    assert value(text, "spool_limit_bytes") == 1000
    assert value(text, "spool_evicted_total") is None
    assert value(text, "engine_restarts_total") == 2
    assert value(text, "device_temperature_celsius", zone="cpu") == 48.5
    assert value(text, "health_problems", severity="critical") == 1
    assert value(text, "health_problems", severity="warning") == 0
    assert (
        value(text, "health_problem", code="source-lost", stream="endo", severity="critical") == 1
    )
    assert (
        value(
            text,
            "model_info",
            model="us-chamber",
            version="1.1.0",
            sha256="ab" * 8,
            backend="onnx",
            precision="",
        )
        == 1
    )


def test_every_drop_reason_of_the_house_is_always_there(metrics: Metrics) -> None:
    text = metrics.render(STATUS)
    counts = {
        drop.value: value(text, "frames_dropped_total", stream="us0", reason=drop.value)
        for drop in DROPS
    }
    assert counts == {drop.value: 0 for drop in DROPS} | {"late": 2, "error": 1}


def test_nothing_is_missed_when_the_status_is_empty(metrics: Metrics) -> None:
    text = metrics.render({})
    assert value(text, "ready") == 0
    names = {name for name, _ in samples(text)}
    assert {"process_cpu_seconds_total", "process_resident_memory_bytes"} <= names
    assert "edge_agent_build_info" in names


def test_timestamps_are_utc_seconds(metrics: Metrics) -> None:
    clock = SystemClock()
    offset_us, _ = clock.utc_offset_us()
    assert offset_us is not None
    now_s = (clock.boot_us() + offset_us) / 1e6
    text = metrics.render(STATUS)
    started = value(text, "start_timestamp_seconds")
    last = value(text, "stream_last_frame_timestamp_seconds", stream="us0")
    assert started == pytest.approx(now_s, abs=5)
    assert last == pytest.approx(now_s - 0.012, abs=5)
    assert value(text, "stream_last_frame_timestamp_seconds", stream="endo") is None


def test_without_utc_no_timestamp_is_invented() -> None:
    class Unset(SystemClock):
        def utc_offset_us(self) -> tuple[int | None, int | None]:
            return None, None

    text = Metrics(clock=Unset(), version="0.1.0").render(STATUS)
    assert b"timestamp_seconds" not in text.replace(
        b"edge_agent_stream_last_frame_timestamp_seconds", b""
    ).replace(b"process_start_time_seconds", b"")
    assert value(text, "stream_last_frame_timestamp_seconds", stream="us0") is None


def test_the_stages_of_a_result_add_up_to_its_latency(metrics: Metrics) -> None:
    metrics.delivered(result(wait_us=2_000, infer_us=5_000), 1_010_000)
    metrics.delivered(result(wait_us=0, infer_us=5_000), 1_033_300)
    text = metrics.render(STATUS)
    latency = value(text, "frame_latency_seconds_sum", stream="us0")
    stages = [
        value(text, "stage_duration_seconds_sum", stream="us0", stage=stage)
        for stage in ("wait", "infer", "deliver")
    ]
    assert latency == pytest.approx(0.0433)
    assert math.fsum(stage or 0.0 for stage in stages) == pytest.approx(0.0433)
    assert value(text, "frame_latency_seconds_count", stream="us0") == 2
    assert value(text, "frame_latency_seconds_bucket", stream="us0", le="0.008") == 0
    assert value(text, "frame_latency_seconds_bucket", stream="us0", le="0.01") == 1
    assert value(text, "frame_latency_seconds_bucket", stream="us0", le="0.0333") == 2


def test_buckets_hold_their_upper_edge_and_the_last_holds_all() -> None:
    histogram = Histogram()
    for edge in BUCKETS_S:
        histogram.observe(edge)
    histogram.observe(100.0)
    assert [count for _, count in histogram.buckets()] == list(range(1, len(BUCKETS_S) + 2))
    assert histogram.buckets()[-1][0] == "+Inf"


def test_the_lag_of_the_loop_is_a_histogram(metrics: Metrics) -> None:
    metrics.lagged(0.003)
    assert value(metrics.render({}), "event_loop_lag_seconds_bucket", le="0.004") == 1


def test_two_apps_share_nothing(metrics: Metrics) -> None:
    metrics.lagged(0.003)
    other = Metrics(clock=SystemClock(), version="0.1.0")
    assert value(other.render({}), "event_loop_lag_seconds_count") == 0


def test_names_keep_to_base_units(metrics: Metrics) -> None:
    metrics.delivered(result(), 1_010_000)
    for family in text_string_to_metric_families(metrics.render(STATUS).decode()):
        assert family.documentation
        assert not any(unit in family.name for unit in ("_ms", "_us", "percent", "_fps"))
        assert family.name.startswith(("edge_agent_", "process_"))


def test_a_stream_that_has_left_has_no_series(metrics: Metrics) -> None:
    metrics.delivered(result(), 1_050_000)
    metrics.delivered(msgspec.structs.replace(result(), stream="gone"), 1_050_000)
    assert value(metrics.render(STATUS), "frame_latency_seconds_count", stream="gone") is None
    assert value(metrics.render(STATUS), "frame_latency_seconds_count", stream="us0") == 1
    metrics.keep({"us0"})
    again = {**STATUS, "streams": {**STATUS["streams"], "gone": {"state": "ok"}}}
    assert value(metrics.render(again), "frame_latency_seconds_count", stream="gone") is None
