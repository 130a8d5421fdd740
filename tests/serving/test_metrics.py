"""Prometheus' own parser is the oracle."""

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from tf_hqgnn.serving.metrics import Counter, Histogram, Metrics


def parse(text):
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_counts_by_label_read_back_whatever_the_label():
    counter = Counter("c", "name")
    for name, amount in (("a", 1), ("a", 2.5), ('"\\\n}', 4)):
        counter.add(name, amount=amount)
    # The parser takes every counter's name to be without its _total.
    assert parse(counter.render()) == {("c_total", (("name", "a"),)): 3.5, ("c_total", (("name", '"\\\n}'),)): 4}


def test_histograms_are_cumulative():
    values = np.array([0.5, 1, 1.5, 3, 99])
    histogram = Histogram("h", [1.0, 2.0, 4.0], "name")
    for value in values:
        histogram.observe(value, "a")
    found = parse(histogram.render())
    for end in (1, 2, 4, np.inf):
        bound = "+Inf" if end == np.inf else str(end)
        assert found["h_bucket", (("le", bound), ("name", "a"))] == (values <= end).sum()
    assert found["h_count", (("name", "a"),)] == 5
    assert found["h_sum", (("name", "a"),)] == values.sum()


def test_names_are_tf_servings():
    names = {line.split()[2] for line in Metrics().render().splitlines() if line.startswith("# TYPE")}
    assert {
        ":tensorflow:serving:request_count",
        ":tensorflow:serving:request_latency",
        ":tensorflow:serving:runtime_latency",
        ":tensorflow:serving:batching_session:queuing_latency",
        ":tensorflow:serving:batching_session:wrapped_run_count",
        ":tensorflow:cc:saved_model:load_attempt_count",
        ":tensorflow:cc:saved_model:load_latency",
    } <= names
