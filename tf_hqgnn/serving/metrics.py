"""Counts and latencies in Prometheus' text format, under TF Serving's names.

Reference: TF Serving, servables/tensorflow/util.cc (names, labels, buckets) and util/prometheus_exporter.cc (format:
  a "/" of TensorFlow's name becomes ":"). There is no dependency for it: Prometheus' own client appends _total to the
  name of a counter, which TF Serving's dashboards don't know.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from typing import Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Microseconds, from 10 us to some 18 minutes.
_LATENCY_BUCKETS = [10 * 1.8**power for power in range(33)]
_SIZE_BUCKETS = [float(2**power) for power in range(13)]


class Counter:
    """A number that grows, one for each combination of labels.

    >>> counter = Counter(":tensorflow:serving:request_count", "model_name", "status")
    >>> counter.add("hqgnn", "OK")
    >>> print(counter.render(), end="")
    # TYPE :tensorflow:serving:request_count counter
    :tensorflow:serving:request_count{model_name="hqgnn",status="OK"} 1
    """

    def __init__(self, name: str, *labels: str) -> None:
        self._name = name
        self._labels = labels
        self._lock = threading.Lock()
        self._values: dict[tuple[str, ...], float] = {}

    def add(self, *values: str, amount: float = 1) -> None:
        """Adds `amount` to the count of these label values."""
        with self._lock:
            self._values[values] = self._values.get(values, 0) + amount

    def render(self) -> str:
        """The lines of an exposition."""
        with self._lock:
            values = dict(self._values)
        lines = [f"# TYPE {self._name} counter"]
        lines += [f"{self._name}{_braces(self._labels, key)} {value:g}" for key, value in sorted(values.items())]
        return "\n".join(lines) + "\n"


class Histogram:
    """How often a value fell into which bucket, for each combination of labels.

    Args:
      name: Of the metric.
      buckets: Their upper ends, ascending; a last one without end is added.
      labels: Names.
    """

    def __init__(self, name: str, buckets: Sequence[float], *labels: str) -> None:
        self._name = name
        self._buckets = buckets
        self._labels = labels
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}

    def observe(self, value: float, *values: str) -> None:
        """Counts `value` under these label values."""
        bucket = bisect_left(self._buckets, value)
        with self._lock:
            counts = self._counts.get(values)
            if counts is None:
                counts = self._counts[values] = [0] * (len(self._buckets) + 1)
                self._sums[values] = 0.0
            counts[bucket] += 1
            self._sums[values] += value

    def render(self) -> str:
        """The lines of an exposition."""
        with self._lock:
            copies = [(key, list(counts), self._sums[key]) for key, counts in sorted(self._counts.items())]
        lines = [f"# TYPE {self._name} histogram"]
        names = (*self._labels, "le")
        for key, counts, total in copies:
            below = 0
            for end, count in zip((*self._buckets, float("inf")), counts, strict=True):
                below += count
                bound = "+Inf" if end == float("inf") else f"{end:g}"
                lines.append(f"{self._name}_bucket{_braces(names, (*key, bound))} {below}")
            lines.append(f"{self._name}_sum{_braces(self._labels, key)} {total:.17g}")
            lines.append(f"{self._name}_count{_braces(self._labels, key)} {below}")
        return "\n".join(lines) + "\n"


class Metrics:
    """All that a server counts. Latencies are in microseconds, as TF Serving's."""

    def __init__(self) -> None:
        serving, loading = ":tensorflow:serving:", ":tensorflow:cc:saved_model:"
        self.request_count = Counter(f"{serving}request_count", "model_name", "status")
        self.request_latency = Histogram(
            f"{serving}request_latency", _LATENCY_BUCKETS, "model_name", "API", "entrypoint"
        )
        # TF Serving has no such metric: requests from their first byte read to their answer, by what they ask for.
        self.signature_latency = Histogram(
            ":tf_hqgnn:serving:signature_latency", _LATENCY_BUCKETS, "model_name", "signature_name"
        )
        self.runtime_latency = Histogram(f"{serving}runtime_latency", _LATENCY_BUCKETS, "model_name", "API", "runtime")
        self.queuing_latency = Histogram(
            f"{serving}batching_session:queuing_latency", _LATENCY_BUCKETS, "thread_pool_name"
        )
        self.run_count = Counter(f"{serving}batching_session:wrapped_run_count")
        self.batch_size = Histogram(f"{serving}batching:processed_batch_size", _SIZE_BUCKETS, "model_name")
        self.load_attempts = Counter(f"{loading}load_attempt_count", "model_path", "status")
        self.load_latency = Counter(f"{loading}load_latency", "model_path")

    def render(self) -> str:
        """The whole exposition."""
        return "".join(metric.render() for metric in vars(self).values())


def _braces(names: Sequence[str], values: Sequence[str]) -> str:
    pairs = ",".join(f'{name}="{_escape(value)}"' for name, value in zip(names, values, strict=True))
    return f"{{{pairs}}}" if pairs else ""


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
