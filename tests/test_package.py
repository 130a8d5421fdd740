"""What importing the package does, seen from fresh processes."""

import subprocess
import sys


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_keras_3_already_imported_is_a_clear_error():
    result = run("import os; os.environ.pop('TF_USE_LEGACY_KERAS', None); import tensorflow, tf_hqgnn")
    assert "ImportError: TensorFlow was imported before tf_hqgnn, with Keras 3" in result.stderr
    assert "set TF_USE_LEGACY_KERAS=1" in result.stderr


def test_import_chooses_keras_2():
    result = run("import tf_hqgnn, tensorflow as tf; print(tf.keras.Model.__module__)")
    assert result.stdout.startswith("tf_keras."), result.stderr


def test_training_needs_neither_tfx_nor_beam_nor_scann():
    blocked = "import sys\nfor name in ('tfx', 'apache_beam', 'scann', 'grpc', 'fastapi'): sys.modules[name] = None\n"
    result = run(
        blocked + "import tf_hqgnn.training, tf_hqgnn.cli, tf_hqgnn.run_directory, tf_hqgnn.data.loading\nprint('ok')"
    )
    assert result.stdout == "ok\n", result.stderr


def test_the_command_line_starts_without_tensorflow():
    result = run("import sys, tf_hqgnn.cli; print('tensorflow' in sys.modules)")
    assert result.stdout == "False\n", result.stderr
