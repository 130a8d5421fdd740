"""What importing the package does, seen from fresh processes."""

import subprocess
import sys

import pytest
from commands import Commands, environment_with
from warm_python import WarmPython


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


FREE = "import os; os.environ.pop('TF_USE_LEGACY_KERAS', None); import tensorflow as tf\n"


@pytest.fixture(scope="module")
def run_after_tensorflow(tmp_path_factory):
    """Runs code in a fork of a Python that has imported TensorFlow, and nothing of it that chooses a Keras."""
    folder = tmp_path_factory.mktemp("free")
    environment = environment_with()
    environment.pop("TF_USE_LEGACY_KERAS", None)
    with WarmPython(folder, ["tensorflow"], environment) as python:
        commands = Commands(python, folder)
        yield lambda code: commands.run(["python", "-c", code])


@pytest.mark.parametrize(
    "use", ["tf.keras.layers", "from tensorflow.keras import layers", "import tensorflow.keras.layers"]
)
def test_keras_3_in_use_is_refused_in_one_line(run_after_tensorflow, use):
    result = run_after_tensorflow(f"{FREE}{use}\nimport tf_hqgnn")
    last = result.err.strip().splitlines()[-1]
    assert last.startswith("ImportError: tf.keras is Keras 3 in this process already, and tf_hqgnn needs Keras 2")
    assert last.endswith("or set TF_USE_LEGACY_KERAS=1")


@pytest.mark.parametrize("before", ["", "import keras\n", "keras = tf.keras\n", "import tf_keras\n"])
def test_tensorflow_may_be_imported_first(run_after_tensorflow, before):
    result = run_after_tensorflow(f"{FREE}{before}import tf_hqgnn\nprint(tf.keras.Model.__module__)")
    assert result.out.startswith("tf_keras."), result.err


def test_importing_it_chooses_keras_2_and_training_needs_neither_tfx_nor_beam_nor_scann():
    blocked = "import sys\nfor name in ('tfx', 'apache_beam', 'scann', 'grpc', 'h11'): sys.modules[name] = None\n"
    result = run(
        f"{blocked}import tf_hqgnn.training.train, tf_hqgnn.cli.commands, tf_hqgnn.runs.run_directory\n"
        "import tf_hqgnn.data.loading, tensorflow as tf\n"
        "print(tf.keras.Model.__module__)"
    )
    assert result.stdout.startswith("tf_keras."), result.stderr


def test_the_command_line_starts_without_tensorflow():
    result = run("import sys, tf_hqgnn.cli.commands; print('tensorflow' in sys.modules)")
    assert result.stdout == "False\n", result.stderr


def test_a_library_call_prints_nothing(dataset, smoke_config, tmp_path, capfd):
    from tf_hqgnn.logs import start_xla
    from tf_hqgnn.training.train import train

    # What XLA says when it is first used is TensorFlow's.
    start_xla()
    capfd.readouterr()
    train(dataset, smoke_config, tmp_path / "run")
    assert capfd.readouterr() == ("", "")
