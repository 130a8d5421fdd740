"""Preparation on Beam gives what one machine makes of the same log: rows, ids, parts, weights and errors."""

import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tf_hqgnn.beam.path.prepare import Sizes, prepare
from tf_hqgnn.beam.path.work import Work, read_arrays
from tf_hqgnn.config import Config
from tf_hqgnn.data.loading import load_dataset
from tf_hqgnn.types import InputError

pytestmark = pytest.mark.long

SMALL = Sizes(shard_bytes=30_000, block_rows=40, block_edges=300)
START = 1_700_000_000


def rows(size, seed):
    """A log with a hot user and a hot item, each in a tenth of the rows, and repeated pairs."""
    rng = np.random.default_rng(seed)
    users, items = rng.integers(0, 90, size), (rng.random(size) ** 2 * 60).astype(int)
    users[rng.random(size) < 0.1] = 7
    items[rng.random(size) < 0.1] = 3
    columns = {
        "user_id": [f"ü{user}" for user in users],
        "item_id": [f"{item:03d}" for item in items],
        "timestamp": START + rng.integers(0, 90 * 86_400, size),
        "rating": rng.integers(1, 6, size),
        "event": rng.choice(["view", "buy", "rate"], size),
    }
    return pa.table(columns)


def write_csv(path, table, names, delimiter=","):
    lines = [delimiter.join(names), *(delimiter.join(str(row[name]) for name in names) for row in table.to_pylist())]
    text = "\n".join(lines) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    names = ["user_id", "item_id", "timestamp", "rating", "event"]
    days = folder / "days"
    days.mkdir()
    for number in range(3):
        suffix = ".csv.gz" if number == 1 else ".csv"
        write_csv(days / f"part-{number}{suffix}", rows(700, number), names, ";" if number == 2 else ",")
    with (days / "part-0.csv").open("a") as file:
        file.write("u1\n,i1,1,2,view\n")
    pq.write_table(rows(900, 5), folder / "train.parquet")
    pq.write_table(rows(200, 6), folder / "test.parquet")
    lists = [f"{user} {' '.join(str(item) for item in range(user % 7, 30, 3))}" for user in range(60)]
    (folder / "lists.txt").write_text("\n".join(lists) + "\n")
    return folder


def read(work, pattern):
    paths = sorted(work.glob(pattern))
    return pa.concat_tables([pq.read_table(path) for path in paths])


CASES = {
    "counts": {"path": "days", "max_bad_rows": 2},
    "core": {"path": "days", "max_bad_rows": 2, "k_core": 6, "min_rating": 2, "combine": "last"},
    "events": {
        "path": "days/*",
        "max_bad_rows": 2,
        "event_weights": {"view": 0, "buy": 5, "rate": 1},
        "exclude_events": ["buy"],
        "half_life_days": 20,
        "split.method": "leave_last_out",
    },
    "dislikes": {"path": "days", "max_bad_rows": 2, "negative_rating": 2, "split.method": "temporal"},
    "given": {"train_path": "train.parquet", "test_path": "test.parquet"},
    "lists": {"path": "lists.txt", "split.valid": 0.2},
}


@pytest.mark.parametrize("case", CASES)
def test_as_on_one_machine(case, logs, tmp_path):
    where = {key: f"{logs}/{value}" if key.endswith("path") else value for key, value in CASES[case].items()}
    config = Config().with_values({f"data.{key}": value for key, value in where.items()})
    prepared = prepare(Work(str(tmp_path), say=[].append), config, SMALL)
    one_path = {"data.path": where["path"].removesuffix("/*")} if "path" in where else {}
    expected = load_dataset(config.with_values(one_path).data, config.seed)
    assert prepared.num_shards > 1 or case == "lists"
    ours, theirs = prepared.report, expected.report
    for name in ("rows_read", "kept", "duplicate", "filtered", "num_bad", "last_time", "unused"):
        assert getattr(ours, name) == getattr(theirs, name), name
    for name in ("user_id", "item_id"):
        assert read(tmp_path, f"number/ids-{name}-*")[name].to_pylist() == getattr(expected, f"{name}s").tolist()
    pairs = read(tmp_path, "blocks/pairs-*").sort_by([("user_index", "ascending"), ("item_index", "ascending")])
    for code, part in enumerate((expected.train, expected.valid, expected.test)):
        mine = pairs.filter(pa.compute.equal(pairs["part"], code))
        assert prepared.sizes[code] == len(part)
        np.testing.assert_array_equal(mine["user_index"], part.user_index)
        np.testing.assert_array_equal(mine["item_index"], part.item_index)
        np.testing.assert_allclose(mine["weight"], np.ones(len(part)) if part.weight is None else part.weight)
        if part.timestamp is not None:
            np.testing.assert_array_equal(mine["timestamp"], part.timestamp)
    sets = read(tmp_path, "number/sets-*")
    assert prepared.has_taken == (expected.taken is not None)
    for name in ("disliked", *(["taken"] if prepared.has_taken else [])):
        mine, theirs = sets.filter(pa.compute.equal(sets["set"], name)), getattr(expected, name)
        found = set(zip(mine["user"].to_pylist(), mine["item"].to_pylist()))
        assert found == (set() if theirs is None else set(zip(theirs.user_index.tolist(), theirs.item_index.tolist())))


def test_blocks_hold_every_training_pair_twice(logs, tmp_path):
    config = Config().with_values({"data.path": f"{logs}/lists.txt"})
    prepared = prepare(Work(str(tmp_path), say=[].append), config, SMALL)
    train = load_dataset(config.data, config.seed).train
    blocks = prepared.blocks
    sides = {True: set(), False: set()}
    for block, part in prepared.edges:
        arrays = read_arrays(f"{tmp_path}/blocks/edges-{block:05d}-{part:05d}.npz")
        for place, source in enumerate(arrays["sources"]):
            some = slice(arrays["starts"][place], arrays["starts"][place + 1])
            mine = blocks.index(block)[arrays["row"][some]].tolist()
            theirs = blocks.index(int(source))[arrays["other"][some]].tolist()
            pairs = zip(mine, theirs) if blocks.is_users(block) else zip(theirs, mine)
            sides[blocks.is_users(block)].update(pairs)
    expected = set(zip(train.user_index.tolist(), train.item_index.tolist()))
    assert sides[True] == sides[False] == expected
    assert blocks.num_blocks > 2
    degree = np.concatenate(
        [read_arrays(f"{tmp_path}/blocks/degree-{block:05d}.npz")["count"] for block in range(blocks.user_blocks)]
    )
    assert degree.sum() == len(train)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"path": "days"}, "2 bad rows, 0 allowed"),
        ({"path": "days", "max_bad_rows": 2, "exclude_events": ["sell"]}, "'sell', which the log doesn't have"),
        ({"path": "lists.txt", "half_life_days": 2}, "half_life_days=2.0 needs a column timestamp"),
        ({"path": "days", "max_bad_rows": 2, "k_core": 90}, "no interaction is left"),
    ],
)
def test_mistakes_are_told_as_on_one_machine(values, said, logs, tmp_path):
    where = {**values, "path": f"{logs}/{values['path']}"}
    config = Config().with_values({f"data.{key}": value for key, value in where.items()})
    for run in (lambda: load_dataset(config.data, 1), lambda: prepare(Work(str(tmp_path)), config, SMALL)):
        with pytest.raises(InputError, match=said):
            run()


def test_a_pattern_that_nothing_matches_is_refused(tmp_path):
    config = Config().with_values({"data.path": f"{tmp_path}/day-*.csv"})
    with pytest.raises(InputError, match="no file matches"):
        prepare(Work(str(tmp_path)), config, SMALL)


def test_a_step_that_is_done_is_not_run_again(logs, tmp_path):
    log = tmp_path / "log.csv"
    log.write_bytes((logs / "days" / "part-2.csv").read_bytes())
    config, told = Config().with_values({"data.path": str(log)}), []
    first = prepare(Work(str(tmp_path / "work"), say=told.append), config, SMALL)
    for step in ("number", "blocks"):
        (tmp_path / "work" / f"{step}.json").unlink()
    # Were it read again, there would be nothing.
    log.write_text("user_id,item_id\n")
    again = prepare(Work(str(tmp_path / "work"), say=told.append), config, SMALL)
    assert again == first
    assert told == [f"beam: {step} is done" for step in ("read", "number", "blocks", "number", "blocks")]
