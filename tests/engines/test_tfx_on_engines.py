"""A TFX pipeline whose Beam steps run on an engine: the statistics and the model of the direct runner."""

import sys

import numpy as np
import pytest
import tensorflow_data_validation as tfdv
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.pipeline import RunOptions

from pipelines.pipeline import SPLITS, create_pipeline
from pipelines.run_record import RunRecord, sqlite_config
from tf_hqgnn.config import Config
from tf_hqgnn.data.synthetic import generate_log, write_log
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.tfx.beam_args import beam_arguments
from tf_hqgnn.tfx.thresholds import Thresholds
from tf_hqgnn.tfx.trainer import run_path

pytestmark = pytest.mark.engines


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "log.csv"
    write_log(generate_log(120, 60, 2000, 3), path)
    return Config.model_validate(
        {
            "seed": 3,
            "data": {"path": str(path)},
            "model": {"embedding_dim": 8},
            "training": {"batch_size": 256, "max_epochs": 2, "jit_compile": False, "warm_start": None},
        }
    )


def run(config, folder, beam_args):
    """Runs the steps from the log to the trained model."""
    pipeline = create_pipeline(
        pipeline_name="engines",
        pipeline_root=str(folder / "artifacts"),
        config=config,
        thresholds=Thresholds(),
        serving_dir=str(folder / "serving"),
        model_store=str(folder / "store"),
        metadata_connection_config=sqlite_config(folder / "metadata.sqlite"),
        beam_pipeline_args=beam_args,
        enable_cache=False,
    )
    with pytest.MonkeyPatch.context() as patched:
        # TFX gives them to absl's flags.
        patched.setattr(sys, "argv", sys.argv[:1])
        LocalDagRunner().run(pipeline, run_options=RunOptions(to_nodes=["Trainer"]))
    return RunRecord.latest(folder / "metadata.sqlite")


def statistics(record, split):
    """Those of each feature; their order, and the last bits of a deviation, depend on the runner."""
    path = record.uri("StatisticsGen", "statistics") / f"Split-{split}" / "FeatureStats.pb"
    (dataset,) = tfdv.load_stats_binary(str(path)).datasets
    return {feature.path.step[0]: feature for feature in dataset.features}


@pytest.fixture(scope="module")
def expected(config, tmp_path_factory):
    """The run of the direct runner, which needs no cluster."""
    return run(config, tmp_path_factory.mktemp("here"), [])


@pytest.mark.parametrize("engine", ["flink"], indirect=True)
def test_an_engine_gives_the_statistics_and_the_model_of_the_direct_runner(expected, engine, config, tmp_path):
    found = run(config, tmp_path, beam_arguments(engine.flags))
    for split in SPLITS:
        one, other = (statistics(record, split) for record in (expected, found))
        assert one.keys() == other.keys() == {"user_id", "item_id", "timestamp"}
        for name, feature in one.items():
            assert other[name].num_stats.std_dev == pytest.approx(feature.num_stats.std_dev, rel=1e-12)
            if feature.HasField("num_stats"):
                other[name].num_stats.std_dev = feature.num_stats.std_dev
            assert other[name] == feature
    one, other = (RunDirectory.load(run_path(str(record.uri("Trainer", "model_run")))) for record in (expected, found))
    assert one.dataset.fingerprint() == other.dataset.fingerprint()
    for name in ("user_embeddings", "item_embeddings"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.metrics["valid"] == other.metrics["valid"]
