"""The pipeline, run for real by LocalDagRunner."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from pipeline_components import COMPONENTS
from tensorflow_metadata.proto.v0 import anomalies_pb2

from pipelines import run_local
from tf_hqgnn.config import Config
from tf_hqgnn.data.loading import load_dataset
from tf_hqgnn.export.loading import load_saved_model
from tf_hqgnn.export.reader import read_bundle
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.runs.trained_state import TrainedState, judged_model_path
from tf_hqgnn.tfx.model_store import read_pointer
from tf_hqgnn.training.train import train

SPLITS = ("train", "valid", "test")


@pytest.fixture(scope="module")
def first(run_pipeline):
    return run_pipeline("--min-lift", "0")


@pytest.fixture(scope="module")
def dataset(odd_log):
    """The same log, read without the pipeline."""
    config = Config.load(odd_log.config)
    paths = {"path": str(odd_log.data), "items_path": str(odd_log.items)}
    return load_dataset(config.data.model_copy(update=paths), config.seed)


@pytest.fixture(scope="module")
def evaluation(first):
    return json.loads((first.record.uri("RankingEvaluator", "evaluation") / "metrics.json").read_text())


def test_every_component_runs_and_says_so(first):
    assert first.code == 0
    assert first.record.states == dict.fromkeys(COMPONENTS, "COMPLETE")
    lines = [line for line in first.out.splitlines() if re.fullmatch(r"\[\d+/10\] \w+ \.\.\. \d+\.\d s", line)]
    assert {re.search(r"\w+(?= \.\.\.)", line)[0] for line in lines} == set(COMPONENTS)
    assert [int(re.match(r"\[(\d+)", line)[1]) for line in lines] == list(range(1, 11))


def test_nothing_is_left_in_the_temporary_folder(first):
    assert first.left == []


def test_the_examples_are_the_split_that_the_data_module_makes(first, dataset):
    artifact = first.record.artifacts["InteractionGen", "examples"]
    assert json.loads(artifact.properties["split_names"].string_value) == list(SPLITS)
    assert artifact.properties["span"].int_value == 0
    assert len(artifact.custom_properties["input_fingerprint"].string_value) == 64
    for split in SPLITS:
        expected = getattr(dataset, split)
        pairs = zip(dataset.user_ids[expected.user_index], dataset.item_ids[expected.item_index], expected.timestamp)
        files = tf.io.gfile.glob(f"{artifact.uri}/Split-{split}/*.gz")
        features = [
            tf.train.Example.FromString(record).features.feature
            for record in tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator()
        ]
        assert len(features) == len(expected)
        assert {
            (
                feature["user_id"].bytes_list.value[0].decode(),
                feature["item_id"].bytes_list.value[0].decode(),
                feature["timestamp"].int64_list.value[0],
            )
            for feature in features
        } == set(pairs)
    assert not [path for path in Path(artifact.uri).iterdir() if not path.name.startswith("Split-")]


def test_k_core_and_min_rating_of_the_config_count(first, dataset):
    report = json.loads((first.record.uri("InteractionGen", "report") / "report.json").read_text())
    assert report["read"] == dataset.report.to_json()
    assert report["read"]["filtered"] > 0
    assert report["text"] in first.out


def test_statistics_schema_and_anomalies_describe_the_examples(first, dataset):
    statistics = tfdv.load_stats_binary(
        str(first.record.uri("StatisticsGen", "statistics") / "Split-train/FeatureStats.pb")
    )
    assert statistics.datasets[0].num_examples == len(dataset.train)
    schema = tfdv.load_schema_text(str(first.record.uri("SchemaGen", "schema") / "schema.pbtxt"))
    assert {feature.name for feature in schema.feature} == {"user_id", "item_id", "timestamp"}
    for split in SPLITS:
        path = first.record.uri("ExampleValidator", "anomalies") / f"Split-{split}" / "SchemaDiff.pb"
        assert not anomalies_pb2.Anomalies.FromString(path.read_bytes()).anomaly_info


def test_the_trained_dataset_is_the_one_that_was_split_whatever_order_transform_gave(first, dataset):
    trained = RunDirectory.load(run_local.latest_run(first.layout.out)).dataset
    assert trained.user_ids.tolist() == dataset.user_ids.tolist()
    assert trained.item_ids.tolist() == dataset.item_ids.tolist()
    assert trained.titles.tolist() == dataset.titles.tolist()
    assert trained.report == dataset.report
    for split in SPLITS:
        for column in ("user_index", "item_index", "timestamp"):
            expected = getattr(getattr(dataset, split), column)
            np.testing.assert_array_equal(getattr(getattr(trained, split), column), expected, f"{split} {column}")


def test_the_pipeline_trains_the_model_that_plain_training_does(first, dataset, odd_log, tmp_path):
    through_pipeline = RunDirectory.load(run_local.latest_run(first.layout.out))
    train(dataset, Config.load(odd_log.config), tmp_path / "run")
    plain = RunDirectory.load(tmp_path / "run")
    assert through_pipeline.metrics["valid"] == plain.metrics["valid"]
    np.testing.assert_array_equal(through_pipeline.item_embeddings, plain.item_embeddings)
    np.testing.assert_array_equal(through_pipeline.coded.items.packed, plain.coded.items.packed)


def test_the_metrics_through_the_saved_models_are_those_of_the_embeddings(first, evaluation):
    run = RunDirectory.load(run_local.latest_run(first.layout.out))
    found = run.evaluate("test", (5, 20))
    model, popularity = found.metrics, found.popularity
    assert model.values != found.full_precision.values
    assert evaluation["num_users"] == model.num_users
    assert evaluation["metrics"] == pytest.approx(model.values, abs=1e-6)
    assert evaluation["popularity"] == pytest.approx(popularity.values)
    # So small a catalogue is searched without leaving anything out.
    assert evaluation["ann_recall@20"] > 0.99
    assert evaluation["ann_metrics"]["ndcg@20"] == pytest.approx(model.values["ndcg@20"], abs=0.01)


def test_what_is_pushed_has_learnt_the_whole_log_and_what_is_judged_has_not(first, evaluation, odd_log):
    run = RunDirectory.load(run_local.latest_run(first.layout.out))
    assert "refit" not in odd_log.config.read_text()
    assert run.metrics["refit"]["served"]
    assert evaluation["refit"] == run.metrics["refit"]
    assert run.metrics["refit"]["note"] in first.out
    served, everything = run.served(), (run.dataset.train, run.dataset.valid, run.dataset.test)
    for output in ("pushed_model", "pushed_index"):
        bundle = read_bundle(Path(first.record.property("Pusher", output, "pushed_destination")))
        np.testing.assert_array_equal(bundle.items.packed, served.coded.items.packed)
        assert len(bundle.seen[1]) == len(run.dataset.history())
    assert served.graph.num_edges == sum(map(len, everything))
    # The next run starts from both, and compares with the model that was judged.
    state = TrainedState.load(Path(read_pointer(first.layout.model_store)["state"]))
    np.testing.assert_array_equal(state.users, served.tables().users)
    np.testing.assert_array_equal(state.held_out.users, run.tables().users)
    path = judged_model_path(Path(read_pointer(first.layout.model_store)["state"]))
    assert set(load_saved_model(path).signatures) == {"recommend"}
    judged = read_bundle(path)
    np.testing.assert_array_equal(judged.items.packed, run.coded.items.packed)
    assert len(judged.seen[1]) == run.graph.num_edges


def test_the_blessings_have_tfxs_properties_and_files(first):
    assert first.record.property("RankingEvaluator", "blessing", "blessed") == 1
    model = first.record.artifacts["Trainer", "model"]
    assert first.record.property("RankingEvaluator", "blessing", "current_model") == model.uri
    assert first.record.property("RankingEvaluator", "blessing", "current_model_id") == model.id
    assert [path.name for path in first.record.uri("RankingEvaluator", "blessing").iterdir()] == ["BLESSED"]
    assert first.record.property("InfraCheck", "blessing", "blessed") == 1
    assert [path.name for path in first.record.uri("InfraCheck", "blessing").iterdir()] == ["INFRA_BLESSED"]


def test_the_pushed_models_answer(first, dataset):
    assert {path.name for path in first.layout.serving.iterdir() if path.is_dir()} == {"hqgnn", "hqgnn_scann"}
    user = "line\nbreak"
    row = dataset.user_ids.tolist().index(user)
    seen = set(dataset.item_ids[dataset.train.item_index[dataset.train.user_index == row]])
    answers = []
    for output, name in (("pushed_model", "hqgnn"), ("pushed_index", "hqgnn_scann")):
        path = first.layout.serving / name / "1"
        assert first.record.property("Pusher", output, "pushed_destination") == str(path)
        assert first.record.property("Pusher", output, "pushed_version") == "1"
        model = load_saved_model(path)
        answer = model.signatures["serving_default"](user_id=tf.constant([user, "nobody"]))
        assert answer["known_user"].numpy().tolist() == [True, False]
        items = [item.decode() for item in answer["item_id"].numpy()[0]]
        assert len(items) == 5
        assert not seen & set(items)
        assert set(items) <= set(dataset.item_ids)
        answers.append(items)
    assert answers[0] == answers[1]


def test_the_pointer_names_the_pushed_models_and_their_metrics(first, evaluation):
    pointer = read_pointer(first.layout.model_store)
    assert pointer["version"] == 1
    assert all((Path(path) / "saved_model.pb").is_file() for path in pointer["models"].values())
    assert pointer["evaluation"] == evaluation


def test_the_summary_names_metrics_and_models(first, evaluation):
    ndcg = [evaluation[ranking]["ndcg@20"] for ranking in ("metrics", "ann_metrics", "popularity")]
    assert re.search("ndcg@20 +" + " +".join(f"{value:.4f}" for value in ndcg), first.out)
    for name in ("hqgnn", "hqgnn_scann"):
        assert str(first.layout.serving / name / "1") in first.out


@pytest.mark.usefixtures("models_load_here")
@pytest.mark.long
def test_runs_that_follow(first, run_pipeline):
    """A repetition comes from the cache; a refused model isn't pushed; a return to the first settings isn't cached."""
    again = run_pipeline("--min-lift", "0")
    assert again.code == 0
    assert again.record.states == dict.fromkeys(COMPONENTS, "CACHED")
    assert again.out.count("from the cache") == len(COMPONENTS)
    assert str(first.layout.serving / "hqgnn" / "1") in again.out

    refused = run_pipeline("--min-lift", "1000")
    assert refused.code == 1
    assert {name for name, state in refused.record.states.items() if state != "CACHED"} == {
        "RankingEvaluator",
        "Pusher",
    }
    assert re.search(r"not pushed after \d+ s: RankingEvaluator: NDCG@20 .* at least 1000 times is asked", refused.out)
    served = first.record.property("Pusher", "pushed_model", "pushed_destination").rpartition("/")[2]
    assert f"\nVersion {served} stays served.\n" in refused.out
    assert refused.record.property("RankingEvaluator", "blessing", "blessed") == 0
    assert [path.name for path in refused.record.uri("RankingEvaluator", "blessing").iterdir()] == ["NOT_BLESSED"]
    assert refused.record.property("Pusher", "pushed_model", "pushed") == 0
    assert sorted(path.name for path in (first.layout.serving / "hqgnn").iterdir()) == [".last_version", "1"]
    assert read_pointer(first.layout.model_store)["version"] == 1

    # Another blessed model in between: the first one must be judged against it and pushed anew, not be remembered.
    other = run_pipeline("--min-lift", "0", "--set", "retrieval.reorder=50")
    assert other.code == 0
    assert "re-evaluated on today's test split" in other.out
    back = run_pipeline("--min-lift", "0")
    assert back.code == 0
    assert back.record.states["Trainer"] == "CACHED"
    assert back.record.states["RankingEvaluator"] == back.record.states["Pusher"] == "COMPLETE"
    assert read_pointer(first.layout.model_store)["version"] == 3
