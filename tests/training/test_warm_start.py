"""A training that starts from another's rows: who keeps them, who gets new ones, and what may judge the result."""

from dataclasses import replace

import numpy as np
import pytest

from tf_hqgnn.config import Config
from tf_hqgnn.data.split_dataset import SplitDataset
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.runs.trained_state import TrainedState
from tf_hqgnn.training.train import train
from tf_hqgnn.training.warm_start import start_tables, warm_start
from tf_hqgnn.types import InputError, Interactions


def pairs(*rows):
    array = np.array(rows or np.zeros((0, 2)), np.int32).reshape(-1, 2)
    return Interactions(array[:, 0], array[:, 1])


def ids(*names):
    return np.array(names, object)


@pytest.fixture
def state():
    """Users b and d, items j and l; b took j, d took l."""
    data = SplitDataset(
        ids("b", "d"), ids("j", "l"), pairs((0, 0), (1, 1)), pairs(), pairs(), titles=ids("Jaws", "Lolita")
    )
    rows = np.array([[3, 0], [0, 3]], np.float32)
    return TrainedState(data, rows, rows[::-1])


@pytest.fixture
def today():
    """Users a and b, items j, k and m; l and d have dropped out. a and b took j, b took k; m is only in the test."""
    data = SplitDataset(ids("a", "b"), ids("j", "k", "m"), pairs((0, 0), (1, 0), (1, 1)), pairs(), pairs((0, 2)))
    return replace(data, titles=ids("Jaws!", "Kes", "M"), available=np.array([True, False, True]))


def test_what_was_taken_or_disliked_before_never_comes_back(today, state):
    # Of the earlier day, b disliked l, and d disliked j; today a disliked k.
    earlier = replace(state, dataset=replace(state.dataset, disliked=pairs((0, 1), (1, 0))))
    now = replace(today, disliked=pairs((0, 1)))
    grown = warm_start(now, earlier, 2).dataset

    def named(part):
        return {grown.user_ids[user] + grown.item_ids[item] for user, item in zip(part.user_index, part.item_index)}

    assert named(grown.disliked) == {"ak", "bl", "dj"}
    assert named(grown.history()) == {"aj", "bj", "bk", "am", "dl", "ak", "bl", "dj"}
    # What is taken after all is liked.
    changed = replace(today, train=pairs((0, 0), (1, 0), (1, 1)), disliked=None)
    liked = replace(state, dataset=replace(state.dataset, train=pairs((1, 1)), disliked=pairs((0, 0))))
    assert not len(warm_start(changed, liked, 2).dataset.disliked)


def test_ids_that_have_dropped_out_stay_and_all_are_sorted(today, state):
    start = warm_start(today, state, 2)
    grown = start.dataset
    assert grown.user_ids.tolist() == ["a", "b", "d"]
    assert grown.item_ids.tolist() == ["j", "k", "l", "m"]
    # Today's title counts where there is one; nobody knew then whether l was available.
    assert grown.titles.tolist() == ["Jaws!", "Kes", "Lolita", "M"]
    assert grown.available.tolist() == [True, False, True, True]
    assert grown.categories is None

    def named(part):
        return sorted(zip(grown.user_ids[part.user_index], grown.item_ids[part.item_index]))

    assert named(grown.train) == [("a", "j"), ("b", "j"), ("b", "k")]
    assert named(grown.test) == [("a", "m")]
    assert start.summary() == {"kept_users": 2, "kept_items": 2, "new_users": 1, "new_items": 2}


def test_old_rows_are_kept_and_new_ones_start_at_their_neighbours(today, state):
    start = warm_start(today, state, 2)
    graph = InteractionGraph.from_interactions(start.dataset.train, 3, 4)
    fresh = np.full((3, 2), 7, np.float32), np.full((4, 2), 8, np.float32)
    users, items = start_tables(start, graph, fresh, unit=False)
    # a took j alone; k was taken by b; m by nobody. All are as long as the known rows.
    assert users.tolist() == [[0, 3], [3, 0], [0, 3]]
    assert items.tolist() == [[0, 3], [3, 0], [3, 0], [8, 8]]
    assert users.dtype == items.dtype == np.float32
    for table, unit in zip((users, items), start_tables(start, graph, fresh, unit=True)):
        np.testing.assert_allclose(unit, table / np.linalg.norm(table, axis=1, keepdims=True))


def test_what_the_model_has_learnt_from_does_not_judge_its_successor(state):
    moved = SplitDataset(ids("b", "d"), ids("j", "l"), pairs((0, 1)), pairs((0, 0)), pairs((1, 0), (1, 1)))
    with pytest.raises(InputError, match=r"has learnt from 1 of the 1 interactions of the validation split.*temporal"):
        warm_start(moved, state, 2)
    found = warm_start(replace(moved, valid=pairs()), state, 2).dataset
    assert list(zip(found.train.user_index, found.train.item_index)) == [(0, 1), (1, 1)]
    assert list(zip(found.test.user_index, found.test.item_index)) == [(1, 0)]


def test_other_dimensions_are_refused(today, state):
    with pytest.raises(InputError, match=r"embedding_dim=2, the settings ask for 64; set model.embedding_dim=2, or"):
        warm_start(today, state, 64)


class TestTraining:
    """Of real runs on the generated log."""

    @pytest.fixture(scope="class")
    @classmethod
    def config(cls):
        return Config.from_yaml(
            "model: {embedding_dim: 16}\n"
            "training: {batch_size: 256, max_epochs: 12, evaluate_every: 1, warm_epochs: 2, steps_per_execution: 4, "
            "jit_compile: false}"
        )

    @pytest.fixture(scope="class")
    @classmethod
    def halves(cls, dataset):
        """Without the last tenth of users and items; and everything."""
        few = dataset.user_ids[: int(0.9 * dataset.num_users)], dataset.item_ids[: int(0.9 * dataset.num_items)]

        def known(part):
            return part.take((part.user_index < len(few[0])) & (part.item_index < len(few[1])))

        parts = (known(part) for part in (dataset.train, dataset.valid, dataset.test))
        return SplitDataset(*few, *parts), dataset

    @pytest.fixture(scope="class")
    @classmethod
    def first(cls, halves, config, tmp_path_factory):
        out = tmp_path_factory.mktemp("warm") / "first"
        return train(halves[0], config, out)

    def test_it_starts_where_the_other_ended_and_says_so(self, first, halves, config, tmp_path):
        settings = config.training.model_copy(
            update={"warm_start": str(first.run_dir), "warm_learning_rate": 1e-9, "warm_epochs": 1}
        )
        result = train(halves[1], config.model_copy(update={"training": settings}), tmp_path / "run")
        assert first.warm_start is None
        assert result.warm_start == {"kept_users": 540, "kept_items": 360, "new_users": 60, "new_items": 40}
        assert result.epochs == 1
        before, after = (RunDirectory.load(one.run_dir).tables().filled() for one in (first, result))
        for old, new in zip(before, after):
            # The loss looks at directions, so rows start at unit length.
            expected = old / np.linalg.norm(old, axis=1, keepdims=True)
            np.testing.assert_allclose(new[: len(old)], expected, atol=1e-6)
        assert RunDirectory.load(result.run_dir).metrics["warm_start"] == result.warm_start
        # The settings are as they were given.
        assert RunDirectory.load(result.run_dir).config.training == settings

    def test_it_is_as_good_after_a_sixth_of_the_epochs(self, first, halves, config, tmp_path):
        cold = train(halves[1], config, tmp_path / "cold")
        state = TrainedState.from_run(RunDirectory.load(first.run_dir))
        warm = train(halves[1], config, tmp_path / "warm", state=state)
        assert warm.epochs == 2
        assert warm.valid["ndcg@20"] > 0.95 * cold.valid["ndcg@20"]

    def test_a_state_comes_back_from_its_folder_and_from_a_run(self, first, tmp_path):
        state = TrainedState.load(first.run_dir)
        state.save(tmp_path / "state")
        back = TrainedState.load(tmp_path / "state")
        assert back.dataset.fingerprint() == state.dataset.fingerprint()
        np.testing.assert_array_equal(back.users, state.users)
        state.save(tmp_path / "state")
        assert [path.name for path in tmp_path.iterdir()] == ["state"]

    def test_a_run_that_is_not_there_is_a_clear_error(self, halves, config, tmp_path):
        settings = config.training.model_copy(update={"warm_start": str(tmp_path / "no")})
        with pytest.raises(InputError, match="no is not the directory of a finished run"):
            train(halves[1], config.model_copy(update={"training": settings}), tmp_path / "run")
        assert not (tmp_path / "run.partial").exists()

    def test_a_run_without_checkpoint_can_not_be_started_from(self, first, tmp_path):
        run = RunDirectory.load(first.run_dir)
        with pytest.raises(InputError, match=r"has no trained tables \(tables.npz\), which a warm start"):
            TrainedState.from_run(replace(run, path=tmp_path))

    def test_of_a_refitted_run_the_validation_interactions_are_learnt_too(self, first):
        run = RunDirectory.load(first.run_dir)
        training = run.config.training.model_copy(update={"refit": True})
        state = TrainedState.from_run(replace(run, config=run.config.model_copy(update={"training": training})))
        assert len(state.dataset.train) == len(run.dataset.train) + len(run.dataset.valid)
        assert len(state.dataset.valid) == 0
