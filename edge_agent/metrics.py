"""Every metric of the agent on one page: its name, its unit, its buckets.

Names are base units (seconds, bytes, celsius) and counters end in `_total`; no averages, no rates,
no quantiles: Prometheus makes those. What the status knows is rendered from the status, afresh at
each scrape, so that no count is kept twice; only the times of single results are collected here.
Labels are names from the configuration, never something that grows by itself.
"""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import accumulate
from typing import Any, Final, Literal, NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.utils import floatToGoString

from edge_agent.core.frames import DROPS, Result
from edge_agent.core.problems import SEVERITIES
from edge_agent.ports import Clock

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
PREFIX: Final = "edge_agent_"
BUCKETS_S: Final = (  # frame periods of 60, 30 and 15 fps and the goal of 100 ms are exact edges
    *(0.001, 0.002, 0.004, 0.006, 0.008, 0.010, 0.0125, 0.0167, 0.020, 0.025, 0.0333),
    *(0.050, 0.0667, 0.100, 0.200, 0.500, 1.0),
)
STAGES: Final = ("wait", "infer", "deliver")  # together they are the latency

Fields = Mapping[str, Any]


class Figure(NamedTuple):
    """One metric out of a part of the status; a value of None is not rendered."""

    name: str
    kind: Literal["gauge", "counter"]
    help: str
    value: Callable[[Fields], float | None]


def _key(name: str, *, scale: float = 1.0) -> Callable[[Fields], float | None]:
    def value(fields: Fields) -> float | None:
        found = fields.get(name)
        return None if found is None else float(found) * scale

    return value


# ── the page ──────────────────────────────────────────────────────────────────────────────────

AGENT: Final = (
    Figure(
        "ready",
        "gauge",
        "1 while every vital room runs.",
        lambda status: float(status.get("state") in {"ok", "degraded"}),
    ),
    Figure("level", "gauge", "Level of degradation, 0 is full service.", _key("level")),
)
STREAM: Final = (  # {stream}
    Figure(
        "stream_up",
        "gauge",
        "1 while good frames arrive, or the stream is idle.",
        lambda stream: float(stream.get("state") in {"ok", "idle"}),
    ),
    Figure(
        "stream_idle",
        "gauge",
        "1 while the stream is idle: a watched folder has nothing new, which is no fault.",
        lambda stream: float(stream.get("state") == "idle"),
    ),
    Figure(
        "stream_expected_frames_per_second",
        "gauge",
        "Frame rate that the source announces.",
        _key("fps_expected"),
    ),
    Figure("frames_captured_total", "counter", "Frames taken from the source.", _key("captured")),
    Figure("frames_inferred_total", "counter", "Frames that became a result.", _key("inferred")),
    Figure("frames_frozen_total", "counter", "Frames equal to the one before.", _key("frozen")),
    Figure("stream_reconnects_total", "counter", "Sources opened again.", _key("reopened")),
)
SPOOL: Final = (
    Figure("spool_records", "gauge", "Records held.", _key("records")),
    Figure("spool_bytes", "gauge", "Bytes of the records held.", _key("bytes")),
    Figure("spool_limit_bytes", "gauge", "Bytes that may be held.", _key("limit_bytes")),
    Figure("spool_appended_total", "counter", "Records taken in.", _key("appended")),
    Figure("spool_acked_total", "counter", "Records that the receiver has.", _key("acked")),
    Figure("spool_evicted_total", "counter", "Records dropped for space.", _key("evicted")),
    Figure("spool_corrupt_total", "counter", "Records damaged on disk.", _key("corrupt")),
)
UPLINK: Final = (
    Figure(
        "uplink_connected",
        "gauge",
        "1 while the broker is there; says nothing of the hot tier.",
        lambda uplink: float(uplink["connected"]) if uplink.get("configured") else None,
    ),
    Figure("uplink_sent_total", "counter", "Messages sent, repeated ones too.", _key("publishes")),
    Figure("uplink_sent_bytes_total", "counter", "Their payloads.", _key("sent_bytes")),
    Figure("uplink_raw_bytes_total", "counter", "The records as JSON.", _key("raw_bytes")),
    Figure("uplink_resends_total", "counter", "Batches sent again.", _key("resends")),
    Figure("uplink_refused_total", "counter", "What came and was not believed.", _key("refused")),
    Figure(
        "uplink_payload_limit",
        "gauge",
        "Characters that a payload may have, where the road was found to be narrow.",
        lambda uplink: (uplink.get("payload") or {}).get("takes"),
    ),
    Figure("uplink_next_probe_seconds", "gauge", "Until the next question.", _key("next_probe_s")),
    Figure("uplink_inflight", "gauge", "Messages that nobody acknowledged yet.", _key("inflight")),
)
ENGINE: Final = (
    Figure(
        "engine_restarts_total",
        "counter",
        "Inference started anew, the first start aside.",
        lambda engine: max(0.0, float(engine["starts"]) - 1) if "starts" in engine else None,
    ),
)
DEVICE: Final = (
    Figure("device_memory_bytes", "gauge", "Memory fitted.", _key("memory_total_bytes")),
    Figure(
        "device_memory_available_bytes",
        "gauge",
        "Memory that can be had without swapping.",
        _key("memory_available_bytes"),
    ),
    Figure("device_disk_bytes", "gauge", "Size of the state's disk.", _key("disk_total_bytes")),
    Figure("device_disk_free_bytes", "gauge", "Free on it.", _key("disk_free_bytes")),
)
MODEL_LABELS: Final = ("model", "version", "sha256", "backend", "precision")


# ── times of single results ───────────────────────────────────────────────────────────────────


class Histogram:
    """Counts in BUCKETS_S. One writer; a reader may see an observation a scrape late."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.sum_s = 0.0

    def observe(self, value_s: float) -> None:
        self.counts[bisect_left(BUCKETS_S, value_s)] += 1
        self.sum_s += value_s

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative, as Prometheus wants them."""
        edges = [*map(floatToGoString, BUCKETS_S), "+Inf"]
        return list(zip(edges, map(float, accumulate(self.counts)), strict=True))


class _Times(NamedTuple):
    latency: Histogram
    wait: Histogram
    infer: Histogram
    deliver: Histogram


class Metrics:
    """One per app; nothing global. `render` may run in a thread, given a snapshot of the status."""

    def __init__(
        self, *, clock: Clock, version: str, revision: str = "", backend: str = ""
    ) -> None:
        self._clock = clock
        self._started_us = clock.boot_us()
        self._build = {
            "version": version,
            "revision": revision,
            "python": platform.python_version(),
            "backend": backend,
        }
        self._times: dict[str, _Times] = {}
        self._lag = Histogram()
        self._process = ProcessCollector(registry=None)

    def delivered(self, result: Result, now_us: int) -> None:
        """A result reached its callback at `now_us` (CLOCK_BOOTTIME)."""
        times = self._times.get(result.stream)
        if times is None:
            times = self._times[result.stream] = _Times(*(Histogram() for _ in _Times._fields))
        latency_us = now_us - result.captured_us
        times.latency.observe(latency_us / 1e6)
        times.wait.observe(result.wait_us / 1e6)
        times.infer.observe(result.infer_us / 1e6)
        times.deliver.observe((latency_us - result.wait_us - result.infer_us) / 1e6)

    def keep(self, streams: Collection[str]) -> None:
        """A stream that has left takes its series along. From the loop, as `delivered`."""
        for name in [name for name in self._times if name not in streams]:
            del self._times[name]

    def lagged(self, lag_s: float) -> None:
        """The event loop came so much too late."""
        self._lag.observe(lag_s)

    def render(self, status: Fields) -> bytes:
        """The Prometheus text of `status` (the shape of /v1/status) and of the times."""
        registry = CollectorRegistry(auto_describe=False)
        offset_us, _ = self._clock.utc_offset_us()
        scrape = _Scrape(self, status, offset_us)
        registry.register(scrape)
        return generate_latest(registry)

    def families(self, status: Fields, offset_us: int | None) -> Iterator[Metric]:
        """Everything, in the order of the page. offset_us: None while UTC is unknown."""
        yield InfoMetricFamily(f"{PREFIX}build", "What runs here.", value=self._build)
        if offset_us is not None:
            yield _gauge(
                "start_timestamp_seconds", "When it started.", (self._started_us + offset_us) / 1e6
            )
        yield from _figures(AGENT, {(): status})
        yield from _problems(status.get("problems", ()))
        yield from _streams(status.get("streams", {}), self._clock.boot_us(), offset_us)
        yield from _models(status.get("models", {}))
        pages = (SPOOL, "spool"), (UPLINK, "uplink"), (ENGINE, "engine"), (DEVICE, "device")
        for page, part in pages:
            yield from _figures(page, {(): status.get(part) or {}})
        ack_s = (status.get("uplink") or {}).get("last_ack_s")
        if ack_s is not None and offset_us is not None:
            at_s = round((self._clock.boot_us() + offset_us) / 1e6 - ack_s, 1)
            yield _gauge("uplink_last_ack_timestamp_seconds", "The hot tier's last word.", at_s)
        yield from _temperatures(status.get("device") or {})
        yield from self._histograms(status.get("streams", {}))
        yield from self._process.collect()

    def _histograms(self, streams: Fields) -> Iterator[Metric]:
        latency = HistogramMetricFamily(
            f"{PREFIX}frame_latency_seconds", "Capture to callback.", labels=("stream",)
        )
        stages = HistogramMetricFamily(
            f"{PREFIX}stage_duration_seconds", "Parts of it.", labels=("stream", "stage")
        )
        for stream, times in dict(self._times).items():
            if stream not in streams:
                continue
            latency.add_metric((stream,), times.latency.buckets(), times.latency.sum_s)
            for stage in STAGES:
                one: Histogram = getattr(times, stage)
                stages.add_metric((stream, stage), one.buckets(), one.sum_s)
        lag = HistogramMetricFamily(
            f"{PREFIX}event_loop_lag_seconds", "How much too late the event loop came."
        )
        lag.add_metric((), self._lag.buckets(), self._lag.sum_s)
        yield from (latency, stages, lag)


class _Scrape:
    """A collector for one scrape: its families are made fresh."""

    def __init__(self, metrics: Metrics, status: Fields, offset_us: int | None) -> None:
        self._metrics = metrics
        self._status = status
        self._offset_us = offset_us

    def collect(self) -> Iterator[Metric]:
        return self._metrics.families(self._status, self._offset_us)


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}{name}", words, value=value)


def _figures(
    page: tuple[Figure, ...], parts: Mapping[tuple[str, ...], Fields], labels: tuple[str, ...] = ()
) -> Iterator[Metric]:
    for figure in page:
        family = CounterMetricFamily if figure.kind == "counter" else GaugeMetricFamily
        metric = family(f"{PREFIX}{figure.name}", figure.help, labels=labels)
        for values, fields in parts.items():
            value = figure.value(fields)
            if value is not None:
                metric.add_metric(values, value)
        if metric.samples:
            yield metric


def _streams(streams: Mapping[str, Fields], now_us: int, offset_us: int | None) -> Iterator[Metric]:
    yield from _figures(STREAM, {(name,): fields for name, fields in streams.items()}, ("stream",))
    dropped = CounterMetricFamily(
        f"{PREFIX}frames_dropped_total", "Frames without a result.", labels=("stream", "reason")
    )
    last = GaugeMetricFamily(
        f"{PREFIX}stream_last_frame_timestamp_seconds", "Newest frame.", labels=("stream",)
    )
    for name, fields in streams.items():
        for drop in DROPS:
            dropped.add_metric((name, drop.value), fields.get("dropped", {}).get(drop.value, 0))
        age_ms = fields.get("last_frame_age_ms")
        if age_ms is not None and offset_us is not None:
            last.add_metric((name,), round((now_us + offset_us) / 1e6 - age_ms / 1e3, 3))
    yield from (dropped, last)


def _problems(problems: Any) -> Iterator[Metric]:
    metric = GaugeMetricFamily(
        f"{PREFIX}health_problems", "Problems in the status.", labels=("severity",)
    )
    for severity in SEVERITIES:
        metric.add_metric(
            (severity,), sum(1 for problem in problems if problem.get("severity") == severity)
        )
    yield metric
    each = GaugeMetricFamily(
        f"{PREFIX}health_problem",
        "1 for each problem that stands; its code is in docs/status.md.",
        labels=("code", "stream", "severity"),
    )
    words = ("code", "stream", "severity")
    for labels in sorted({tuple(str(one.get(word) or "") for word in words) for one in problems}):
        each.add_metric(labels, 1)
    yield each


def _models(models: Mapping[str, Fields]) -> Iterator[Metric]:
    metric = InfoMetricFamily(f"{PREFIX}model", "Models in use.", labels=("model",))
    for name, fields in models.items():
        labels = {label: str(fields.get(label) or "") for label in MODEL_LABELS[1:]}
        labels["version"] = str(fields.get("active") or "")
        labels["sha256"] = str(fields.get("sha") or "")  # its head, as records have it
        metric.add_metric((name,), labels)
    yield metric


def _temperatures(device: Fields) -> Iterator[Metric]:
    metric = GaugeMetricFamily(
        f"{PREFIX}device_temperature_celsius", "By thermal zone.", labels=("zone",)
    )
    for zone, celsius in (device.get("temperature_celsius") or {}).items():
        metric.add_metric((zone,), celsius)
    yield metric
