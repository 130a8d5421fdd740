"""A run directory made by Beam jobs is that of one machine: the same data, rows, codes and metrics."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from path_runs import FEW, check_embeddings, config_of, write_small_log

from tf_hqgnn.beam.blocks import Blocks
from tf_hqgnn.beam.path.assemble import check_fits
from tf_hqgnn.beam.path.evaluate import evaluate
from tf_hqgnn.beam.path.prepare import Prepared, Sizes, prepare
from tf_hqgnn.beam.path.products import Graph, Table, multiply, start
from tf_hqgnn.beam.path.rows import Served
from tf_hqgnn.beam.path.train import train_on_beam
from tf_hqgnn.beam.path.work import Work, read_arrays, write_arrays
from tf_hqgnn.data.loading import load_dataset
from tf_hqgnn.data.report import ReadReport
from tf_hqgnn.data.splits import TEST
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.training.train import train
from tf_hqgnn.types import InputError

pytestmark = pytest.mark.long

SMALL = Sizes(shard_bytes=40_000, block_rows=70, block_edges=700)


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "log.csv"
    write_small_log(path)
    # Users and items of one interaction, which the split may leave without a training one.
    with path.open("a") as file:
        columns = path.read_text().splitlines()[0].count(",")
        file.writelines(f"lone{n},new{n // 2}{',1' * (columns - 1)}\n" for n in range(6))
    return path


@pytest.fixture(scope="module")
def config(log):
    return config_of(log)


@pytest.fixture(scope="module")
def runs(config, tmp_path_factory):
    folder, lines = tmp_path_factory.mktemp("runs"), []
    answers = str(folder / "answers")
    made = train_on_beam(config, folder / "beam", (), say=lines.append, sizes=SMALL, recommendations=answers)
    assert made.run_dir == folder / "beam"
    assert lines[:3] == [f"beam: {step} is done" for step in ("read", "number", "blocks")]
    train(load_dataset(config.data, config.seed), config, folder / "one")
    assert not list(folder.glob("*.partial*"))
    return RunDirectory.load(folder / "beam"), RunDirectory.load(folder / "one")


@pytest.fixture(scope="module")
def blocks_of_log(config, tmp_path_factory):
    work = Work(str(tmp_path_factory.mktemp("work")), say=[].append)
    return work, prepare(work, config, SMALL)


def test_same_data_and_rows(runs):
    beam, one = runs
    assert beam.dataset.fingerprint() == one.dataset.fingerprint()
    assert beam.config == one.config
    for name in ("indptr", "indices"):
        np.testing.assert_array_equal(getattr(beam.graph, name), getattr(one.graph, name))
    for name in ("users", "items"):
        np.testing.assert_array_equal(getattr(beam.unknown, name), getattr(one.unknown, name))
    signs = check_embeddings(beam, one, atol=1e-4)
    for name in ("users", "items"):
        tables = [np.nan_to_num(getattr(run.tables(), name), nan=7) for run in runs]
        np.testing.assert_allclose(tables[0] * np.where(tables[0] == 7, 1, signs), tables[1], atol=1e-4)


def test_codes_are_those_of_the_rows(runs):
    beam, _ = runs
    for rows, codes in ((beam.user_embeddings, beam.coded.users), (beam.item_embeddings, beam.coded.items)):
        expected = Codes.quantize(rows, 8)
        np.testing.assert_array_equal(codes.packed, expected.packed)
        np.testing.assert_array_equal(codes.scale, expected.scale)


def test_the_metrics_are_those_of_one_machine(runs):
    beam, one = runs
    found = beam.evaluate("valid", (10, 20, 50))
    for name, expected in (
        ("valid", found.metrics),
        ("full_precision", found.full_precision),
        ("popularity", found.popularity),
    ):
        assert beam.metrics[name].keys() == expected.values.keys()
        for metric, value in expected.values.items():
            assert beam.metrics[name][metric] == pytest.approx(value, abs=1e-6), (name, metric)
    assert beam.metrics["valid"]["ndcg@20"] == pytest.approx(one.metrics["valid"]["ndcg@20"], rel=0.005)


def test_recommendations_are_the_best_of_all_items(runs):
    beam, _ = runs
    paths = sorted((beam.path.parent / "answers").glob("recommendations-*.parquet"))
    assert len(paths) > 1
    table = pa.concat_tables([pq.read_table(path) for path in paths])
    assert sorted(table["user_id"].to_pylist()) == beam.dataset.user_ids.tolist()
    users, items = beam.coded.dequantize()
    scores = users @ items.T
    scores[:, beam.unknown.items] = -np.inf
    history = beam.dataset.history()
    scores[history.user_index, history.item_index] = -np.inf
    row_of = {name: row for row, name in enumerate(beam.dataset.user_ids)}
    for row in table.to_pylist():
        mine = scores[row_of[row["user_id"]]]
        order = np.argsort(-mine, kind="stable")[: np.isfinite(mine).sum()][:10]
        assert row["known_user"]
        assert row["item_ids"] == beam.dataset.item_ids[order].tolist()
        np.testing.assert_allclose(row["scores"], mine[order], rtol=1e-5)


def test_what_does_not_fit_is_told_before_it_is_put_together():
    blocks = Blocks(10_000, 5_000, 100_000, 1_000, 10_000)
    report = ReadReport(100_000, 100_000, 0, 0)
    prepared = Prepared(blocks, 1, report, (100_000, 0, 0), (1.0, 1.0, 1e5), (), (0, 0), False, False)
    check_fits(prepared, 64, 10**9)
    with pytest.raises(InputError, match=r"needs about 0 GB .* this machine has 0 GB: .* --resume on a larger one"):
        check_fits(prepared, 64, 10**6)


def test_a_product_is_that_of_the_matrix(config, blocks_of_log, tmp_path):
    weighted = config.with_values({"data.columns": {"weight": "timestamp"}})
    other = Work(str(tmp_path), say=[].append)
    cut = prepare(other, weighted, Sizes(1 << 26, block_rows=61, block_edges=400))
    for settings, work, prepared in ((config, *blocks_of_log), (weighted, other, cut)):
        dataset = load_dataset(settings.data, settings.seed)
        graph = InteractionGraph.from_interactions(dataset.train, dataset.num_users, dataset.num_items)
        blocks = prepared.blocks
        begin = start(work, "start", blocks, False, 3, seed=9)
        rows = np.random.default_rng(9).standard_normal((dataset.num_items, 3), np.float32)
        np.testing.assert_array_equal(begin.block(blocks, blocks.user_blocks), rows[:: blocks.item_blocks])
        of_graph = Graph(work.path("blocks"), blocks, prepared.mean_weight, (0.3, 0.4))
        table = Table(begin.folder, np.float32([[2, 0], [0, 1], [1, 1]]))
        gram = multiply(work, "product", of_graph, table, True, prepared.edges)
        factors = [
            np.where(strength > 0, strength, 1) ** -power
            for strength, power in ((graph.user_strength, 0.3), (graph.item_strength, 0.4))
        ]
        expected = factors[0][:, None] * (graph.to_matrix() @ (factors[1][:, None] * (rows @ table.rotation)))
        found = np.zeros_like(expected)
        for block in range(blocks.user_blocks):
            found[blocks.index(block)] = read_arrays(work.path("product", f"rows-{block:05d}.npz"))["rows"]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(gram, expected.T @ expected, rtol=1e-4)


def test_test_metrics_mask_the_validation_items(runs, blocks_of_log, tmp_path):
    beam, _ = runs
    work, prepared = blocks_of_log
    blocks = prepared.blocks
    served = Served(str(tmp_path / "given"), blocks, 6, (None, None))
    (tmp_path / "given").mkdir()
    for block in range(blocks.num_blocks):
        table = beam.user_embeddings if blocks.is_users(block) else beam.item_embeddings
        write_arrays(f"{served.folder}/rows-{block:05d}.npz", rows=table[blocks.index(block)])
    found = evaluate(work, prepared, served, TEST, (5, 20))
    expected = beam.evaluate("test", (5, 20))
    assert found["served"].num_users == expected.full_precision.num_users
    assert found["served"].values == pytest.approx(expected.full_precision.values, abs=1e-6)
    assert found["popularity"].values == pytest.approx(expected.popularity.values, abs=1e-6)


def test_propagation_and_codes_of_one_range(config, tmp_path):
    # By time, so that some users are new in what is held out.
    values = {
        "data": {"split": {"method": "temporal"}},
        "propagation": {"solver": "euler", "t1": 0.5, "normalize": True, "search": False},
        "quantization": {"bits": 4, "user_bits": None, "method": "post_training", "mode": "per_tensor"},
    }
    flat = {f"{section}.{key}": value for section, keys in values.items() for key, value in keys.items()}
    other = config.with_values(flat)
    made = train_on_beam(other, tmp_path / "beam", (), say=[].append, sizes=SMALL)
    train(load_dataset(other.data, other.seed), other, tmp_path / "one")
    beam, one = (RunDirectory.load(tmp_path / name) for name in ("beam", "one"))
    assert one.unknown.users.any()
    np.testing.assert_array_equal(beam.unknown.users, one.unknown.users)
    signs = check_embeddings(beam, one, atol=1e-4)
    np.testing.assert_allclose(beam.coded.items.scale, one.coded.items.scale, rtol=1e-3)
    np.testing.assert_allclose(beam.coded.users * signs, one.coded.users, atol=1e-4)
    assert made.valid.keys() == one.metrics["valid"].keys()
    found = beam.evaluate("valid", (10, 20, 50))
    assert made.valid == pytest.approx(found.metrics.values, abs=1e-6)
    assert made.popularity == pytest.approx(one.metrics["popularity"], abs=1e-6)


REFUSED = {
    "auto.race": True,
    "training.max_epochs": 3,
    "model.encoder": "lightgcn",
    "training.refit": True,
    "quantization.method": "distillation",
    "data.quarantine_path": "bad.csv",
    "model.initializer": "random",
}


@pytest.mark.parametrize("setting", REFUSED)
def test_what_it_cannot_do_is_refused_at_once(setting, config, tmp_path):
    with pytest.raises(InputError, match=rf"^--runner: .*{setting}|^--runner: {setting}"):
        train_on_beam(config.with_values({setting: REFUSED[setting]}), tmp_path / "run", ())
    assert not list(tmp_path.iterdir())


def test_a_killed_run_goes_on_where_it_was(log, tmp_path):
    command = [sys.executable, "-m", "tf_hqgnn.cli", "train", "spectral", "--out", str(tmp_path / "run"), "--json"]
    for one in (f"data.path={log}", *FEW):
        command += ["--set", one]
    command += ["--runner=DirectRunner"]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as first:
        for line in first.stderr:
            if "product-01 is done" in line:
                first.send_signal(signal.SIGKILL)
                break
    again = subprocess.run([*command, "--resume"], capture_output=True, text=True, env=environment, check=False)
    assert again.returncode == 0, again.stderr
    done = [line.split()[1] for line in again.stderr.splitlines() if line.startswith("beam: ")]
    assert "read" not in done
    assert "product-01" not in done
    assert "product-02" in done
    assert "4,006 rows read" in again.stderr
    result = json.loads(again.stdout)
    run = RunDirectory.load(tmp_path / "run")
    assert result["valid"] == run.metrics["valid"]
    assert run.evaluate("valid", (20,)).metrics.values["ndcg@20"] == pytest.approx(result["valid"]["ndcg@20"])
