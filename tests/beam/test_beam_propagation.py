"""The ODE as a pipeline: the same as in memory and as the matrix exponential, whatever the blocks and the runner."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

from tf_hqgnn.beam.blocks import Blocks, edge_block, product, split
from tf_hqgnn.beam.graph_files import write_edges, write_rows
from tf_hqgnn.beam.propagation import main, propagate
from tf_hqgnn.beam.series import coefficients
from tf_hqgnn.config import PropagationConfig
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.training.propagation import propagate_embeddings
from tf_hqgnn.types import InputError, Interactions

pytestmark = pytest.mark.long

NUM_USERS, NUM_ITEMS, DIM = 61, 37, 5


@pytest.fixture(scope="module")
def graph():
    """Popular and unpopular items; the last user and the last item have no edge; one pair is there three times."""
    rng = np.random.default_rng(5)
    users = rng.integers(0, NUM_USERS - 1, 400)
    items = (rng.random(400) ** 3 * (NUM_ITEMS - 1)).astype(int)
    users, items = (np.append(values, values[[0, 0]]) for values in (users, items))
    tables = [rng.normal(size=(size, DIM)).astype(np.float32) for size in (NUM_USERS, NUM_ITEMS)]
    return users, items, *tables


@pytest.fixture(scope="module")
def files(graph, tmp_path_factory):
    """Patterns of several files each, their rows shuffled."""
    folder = tmp_path_factory.mktemp("graph")
    rng = np.random.default_rng(6)
    users, items, *tables = graph
    for number, part in enumerate(np.array_split(rng.permutation(len(users)), 3)):
        write_edges(str(folder / f"edges-{number}.parquet"), users[part], items[part])
    for name, table in zip(("users", "items"), tables):
        for number, part in enumerate(np.array_split(rng.permutation(len(table)), 2)):
            write_rows(str(folder / f"{name}-{number}.parquet"), part, table[part])
    return [str(folder / f"{name}-*.parquet") for name in ("edges", "users", "items")]


def read(folder, name):
    tables = [pq.read_table(path) for path in sorted(folder.glob(f"{name}-*.parquet"))]
    table = pa.concat_tables(tables).sort_by("index")
    assert table["index"].to_pylist() == list(range(len(table)))
    return np.stack(table["embedding"].to_numpy())


def in_memory(graph, **settings):
    users, items, *tables = graph
    one = InteractionGraph.from_interactions(Interactions(users, items), NUM_USERS, NUM_ITEMS)
    return propagate_embeddings(one, *tables, PropagationConfig(**settings))


@pytest.mark.parametrize(
    ("settings", "block_rows", "block_edges", "flags"),
    [
        ({"solver": "exact", "t1": 1.0, "normalize": False}, 16, 40, []),
        ({"solver": "rk4", "t1": 1.5, "num_steps": 2, "normalize": True}, 1000, 1000, []),
        ({"solver": "euler", "t1": 0.25, "normalize": True}, 16, 30, ["--direct_running_mode=multi_threading"]),
        ({"solver": "none", "t1": 0.25, "normalize": True}, 16, 30, []),
    ],
)
def test_as_in_memory(graph, files, tmp_path, settings, block_rows, block_edges, flags):
    series = coefficients(settings["solver"], settings["t1"], settings.get("num_steps", 1))
    flags = [*flags, "--direct_num_workers=2"] if flags else []
    done = propagate(
        *files,
        str(tmp_path / "out"),
        series,
        settings["normalize"],
        flags,
        block_rows=block_rows,
        block_edges=block_edges,
    )
    expected = in_memory(graph, **settings)
    for name, table in zip(("users", "items"), expected):
        np.testing.assert_allclose(read(tmp_path / "out", name), table, rtol=1e-5, atol=1e-5 * np.abs(table).max())
    distinct = len(set(zip(*graph[:2])))
    assert (done.num_edges, done.num_repeated) == (distinct, len(graph[0]) - distinct)
    assert (done.num_users, done.num_items, done.num_products) == (NUM_USERS, NUM_ITEMS, len(series) - 1)
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == vars(done)


def test_weights_count_as_in_memory(graph, files, tmp_path):
    users, items, *tables = graph
    # A pair of mean weight 1, as a run directory has them; repeated pairs count by their sum.
    weight = np.random.default_rng(8).integers(1, 5, len(users)).astype(np.float64)
    expected = InteractionGraph.from_interactions(Interactions(users, items, weight=weight), NUM_USERS, NUM_ITEMS)
    for number, part in enumerate(np.array_split(np.arange(len(users)), 2)):
        scaled = (weight[part] / weight.sum() * expected.num_edges).astype(np.float32)
        write_edges(str(tmp_path / f"edges-{number}.parquet"), users[part], items[part], scaled)
    edges = str(tmp_path / "edges-*.parquet")
    propagate(edges, *files[1:], str(tmp_path / "out"), coefficients("exact", 1.0), block_rows=16, block_edges=40)
    settings = PropagationConfig(solver="exact", t1=1.0, normalize=False)
    for name, table in zip(("users", "items"), propagate_embeddings(expected, *tables, settings)):
        np.testing.assert_allclose(read(tmp_path / "out", name), table, rtol=1e-4, atol=1e-5 * np.abs(table).max())


@pytest.mark.parametrize("t1", [0.5, 3.0])
def test_the_series_is_the_matrix_exponential(t1):
    a = np.array([[0.0, 0.6, 0.2], [0.6, 0.0, 0.1], [0.2, 0.1, 0.0]])
    # (h, e) together solve a linear equation without a source.
    both = np.block([[a, np.eye(3)], [np.zeros((3, 6))]])
    expected = scipy.linalg.expm(t1 * both) @ np.vstack([np.eye(3), np.eye(3)])
    for solver, steps, tolerance in (("exact", 1, 1e-9), ("rk4", 60, 1e-6), ("heun", 300, 1e-3)):
        powers = sum(c * np.linalg.matrix_power(a, k) for k, c in enumerate(coefficients(solver, t1, steps, 1e-10)))
        np.testing.assert_allclose(powers, expected[:3], rtol=tolerance, atol=tolerance)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 40), st.integers(1, 50))
def test_every_node_is_in_one_block(num_users, num_items, block_rows, block_edges):
    blocks = Blocks(num_users, num_items, 100, block_rows, block_edges)
    sides = {True: [], False: []}
    for block in range(blocks.num_blocks):
        assert len(blocks.index(block)) == blocks.rows(block) <= block_rows
        sides[blocks.is_users(block)] += blocks.index(block).tolist()
        assert 1 <= blocks.parts(block) <= (blocks.item_blocks if blocks.is_users(block) else blocks.user_blocks)
    assert sorted(sides[True]) == list(range(num_users))
    assert sorted(sides[False]) == list(range(num_items))


@given(st.sets(st.tuples(st.integers(0, 6), st.integers(0, 4)), min_size=1))
def test_the_product_of_two_blocks_is_that_of_matrices(pairs):
    rows, others = np.array(sorted(pairs)).T
    dense = np.zeros((7, 5), np.float32)
    dense[rows, others] = 1
    values = np.arange(10, dtype=np.float32).reshape(5, 2)
    order = np.random.default_rng(0).permutation(len(rows))
    block, touched, sums = product(edge_block(3, rows[order], others[order]), values)
    found = np.zeros((7, 2), np.float32)
    found[np.frombuffer(touched, np.int32)] = np.frombuffer(sums, np.float32).reshape(-1, 2)
    np.testing.assert_array_equal(found, dense @ values)
    assert block == 3
    assert {key: places.tolist() for key, places in split(rows)} == {
        key: np.flatnonzero(rows == key).tolist() for key in set(rows.tolist())
    }


def write(folder, edges=((0, 0), (1, 1)), users=(0, 1), items=(0, 1), dims=(2, 2), value=1.0):
    """Paths of a small graph."""
    write_edges(str(folder / "edges.parquet"), *np.array(edges).T)
    for name, index, dim in zip(("users", "items"), (users, items), dims):
        write_rows(str(folder / f"{name}.parquet"), np.array(index), np.full((len(index), dim), value, np.float32))
    return [str(folder / f"{name}.parquet") for name in ("edges", "users", "items")]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"edges": ((0, 0), (1, 2))}, r"edges\.parquet: item_index 2 isn't in \[0, 2\), as the files of rows have it"),
        ({"users": (0, 0)}, "the rows of users have index 0 2 times; expected each once"),
        ({"items": (0, 2)}, r"items\.parquet: index must be 0 to 1, each once, got 2"),
        ({"dims": (2, 3)}, "users have 2 dimensions, items 3: they must have the same"),
        ({"value": np.nan}, r"users\.parquet: expected rows of 2 finite numbers: did training diverge\?"),
    ],
)
def test_wrong_files(tmp_path, wrong, message):
    with pytest.raises(InputError, match=message):
        propagate(*write(tmp_path, **wrong), str(tmp_path / "out"), np.ones(1))


def test_files_of_another_kind(tmp_path):
    edges, users, items = write(tmp_path)
    with pytest.raises(InputError, match=r"--edges .*users\.parquet: expected a column user_index, found"):
        propagate(users, users, items, str(tmp_path / "out"), np.ones(1))
    with pytest.raises(InputError, match=r"--user-rows .*none: no such file; expected Parquet with the col"):
        propagate(edges, str(tmp_path / "none"), items, str(tmp_path / "out"), np.ones(1))
    (tmp_path / "text").write_text("index,embedding")
    with pytest.raises(InputError, match=r"--item-rows .*text: not a Parquet file"):
        propagate(edges, users, str(tmp_path / "text"), str(tmp_path / "out"), np.ones(1))
    pq.write_table(pa.table({"index": [0], "embedding": [[1.0]]}), tmp_path / "lists")
    with pytest.raises(InputError, match=r"embedding is of type list<.*; expected a fixed-size list of float32"):
        propagate(edges, str(tmp_path / "lists"), items, str(tmp_path / "out"), np.ones(1))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "something").touch()
    with pytest.raises(InputError, match=r"out\[1\]: expected a name without"):
        propagate(edges, users, items, str(tmp_path / "out[1]"), np.ones(1))
    with pytest.raises(InputError, match="out isn't empty, and nothing is overwritten: delete it, or choose another"):
        propagate(edges, users, items, str(tmp_path / "out"), np.ones(1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to propagate: either --run RUN_DIR, or --edges, --user-rows and --item-rows"),
        (["--run", "nowhere"], "nowhere is not the directory of a finished run (no metrics.json)"),
        (["--run", "nowhere", "--block-rows", "0"], "--block-rows and --block-edges must be at least 1"),
        (
            ["--edges=a", "--user-rows=b", "--item-rows=c", "--solver=adaptive"],
            "--solver adaptive has no series: take",
        ),
        (
            ["--edges=a", "--user-rows=b", "--item-rows=c", "--solver=best"],
            "unknown solver 'best': expected one",
        ),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--out", str(tmp_path / "out")])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"tf_hqgnn.beam.propagation: {message}")


def test_a_run_directory_gives_its_own_rows(dataset, smoke_config, tmp_path, capsys):
    from tf_hqgnn.training.train import train

    settings = smoke_config.model_copy(
        update={"propagation": PropagationConfig(solver="heun", t1=0.5, search=False, normalize=True)}
    )
    train(dataset, settings, tmp_path / "run")
    main(["--run", str(tmp_path / "run"), "--out", str(tmp_path / "out"), "--block-rows", "150"])
    assert json.loads(capsys.readouterr().out)["num_products"] == 2
    with np.load(tmp_path / "run" / "embeddings.npz") as served:
        for name in ("user", "item"):
            np.testing.assert_allclose(read(tmp_path / "out", f"{name}s"), served[name], atol=1e-5)
