"""What TFX's Beam steps are given for a runner; tests/engines/test_tfx_on_engines.py runs them on real engines."""

import pytest
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, PortableOptions, StandardOptions

from pipelines import run_local
from tf_hqgnn.tfx.beam_args import beam_arguments
from tf_hqgnn.types import InputError

# `--job_endpoint` would be asked for the engine's options.
POOL = ["--runner=FlinkRunner", "--environment_type=EXTERNAL", "--environment_config=localhost:50000"]


def test_nothing_is_added_for_this_process():
    assert beam_arguments([]) == []
    two = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    assert beam_arguments(two) == two


def test_our_defaults_go_along_and_what_is_given_stays():
    arguments = beam_arguments([*POOL, "--environment_cache_millis=8000", "--", "--object_reuse"])
    options = PipelineOptions(arguments)
    assert options.view_as(StandardOptions).runner == "FlinkRunner"
    assert options.view_as(PortableOptions).environment_config == "localhost:50000"
    assert int(options.view_as(PortableOptions).environment_cache_millis) == 8000
    # By this name the jobs are cancelled.
    assert options.view_as(GoogleCloudOptions).job_name.startswith("tf-hqgnn-")
    assert {"--object_reuse", "--execution_mode_for_batch=BATCH_FORCED"} <= set(arguments)
    assert "--" not in arguments
    assert "--environment_cache_millis=500" in beam_arguments(POOL)


@pytest.mark.parametrize("environment", [[], ["--environment_type=DOCKER"]])
def test_workers_that_do_not_see_the_artifacts_are_refused(environment):
    with pytest.raises(InputError, match=r"^--environment_type=DOCKER.* don't see the files of the pipeline"):
        beam_arguments(["--runner=FlinkRunner", *environment])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--runner=FlinkRunner"], "--environment_type=DOCKER, the default: workers in containers don't see the files"),
        (["--runner=DaskRunner"], "--runner=DaskRunner loses data without an error"),
        (["--environment_type=PROCESS"], "No such option: --environment_type"),
    ],
)
def test_a_pipeline_takes_options_of_beam_with_a_runner(flags, said, tmp_path, capsys):
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id\nu,i\n")
    assert run_local.main(["--data", str(log), "--out", str(tmp_path / "out"), *flags]) == 2
    assert capsys.readouterr().err.startswith(f"error: {said}")
    assert not (tmp_path / "out").exists()
