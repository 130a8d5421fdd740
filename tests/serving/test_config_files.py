import pytest

from tf_hqgnn.serving.config_files import (
    read_batching_parameters,
    read_model_configs,
    read_monitoring_path,
    read_tls_keys,
)
from tf_hqgnn.types import InputError


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "file.config"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_batching_parameters(write):
    """The example of TF Serving's batching guide, and the padding beside it."""
    parameters = read_batching_parameters(
        write(
            "max_batch_size { value: 128 }\nbatch_timeout_micros { value: 0 }\nmax_enqueued_batches { value: 1000 }\n"
            'num_batch_threads { value: 8 }\nthread_pool_name { value: "pool" }\npad_variable_length_inputs: true'
        )
    )
    assert parameters.max_batch_size == 128
    assert parameters.batch_timeout_micros == 0
    assert parameters.max_enqueued_batches == 1000
    assert parameters.num_batch_threads == 8
    assert parameters.thread_pool_name == "pool"
    assert parameters.pad_variable_length_inputs
    few = read_batching_parameters(write("batch_timeout_micros { value: 500 }"))
    assert (few.max_batch_size, few.batch_timeout_micros, few.pad_variable_length_inputs) == (64, 500, False)


def test_monitoring_config(write):
    """The example of TF Serving's Docker guide; the path is TF Serving's own if none is named."""
    assert (
        read_monitoring_path(write('prometheus_config { enable: true, path: "/monitoring/prometheus/metrics" }'))
        == "/monitoring/prometheus/metrics"
    )
    assert read_monitoring_path(write("prometheus_config { enable: true }")) == "/monitoring/prometheus/metrics"
    assert read_monitoring_path(write('prometheus_config { path: "/metrics" }')) is None
    assert read_monitoring_path(write("")) is None


def test_model_configs(write, tmp_path):
    """The examples of TF Serving's configuration guide."""
    one, two = read_model_configs(
        write(
            """
            model_config_list {
              config {
                name: 'one' base_path: '/somewhere/one' model_platform: 'tensorflow'
                model_version_policy { specific { versions: 42 versions: 43 } }
                version_labels { key: 'stable' value: 42 }
                version_labels { key: 'canary' value: 43 }
              }
              config { name: 'two' base_path: 'two' }
            }
            """
        )
    )
    assert (one.name, one.base_path) == ("one", "/somewhere/one")
    assert list(one.model_version_policy.specific.versions) == [42, 43]
    assert dict(one.version_labels) == {"stable": 42, "canary": 43}
    assert two.base_path == str(tmp_path / "two")


PEM = "-----BEGIN X-----\\nabc\\n-----END X-----\\n"


def test_ssl_config(write):
    keys = read_tls_keys(write(f'server_key: "{PEM}" server_cert: "{PEM}" custom_ca: "{PEM}" client_verify: true'))
    assert keys.server_key == "-----BEGIN X-----\nabc\n-----END X-----\n"
    assert keys.client_verify
    assert not read_tls_keys(write(f'server_key: "{PEM}" server_cert: "{PEM}"')).client_verify


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (
            read_batching_parameters,
            "max_batch_size: 5",
            "expected a BatchingParameters of TF Serving in text format",
        ),
        (read_batching_parameters, "max_batch_size { value: 0 }", "config: max_batch_size: expected at least 1, got 0"),
        (read_batching_parameters, "allowed_batch_sizes: 8", "allowed_batch_sizes isn't supported: leave it out"),
        (read_monitoring_path, b"\xff", "expected a MonitoringConfig of TF Serving"),
        (read_monitoring_path, 'prometheus_config { enable: true path: "x" }', "begins with \"/\", got 'x'"),
        (read_model_configs, "", "expected model_config_list .* found none"),
        (read_model_configs, "models {}", "expected a ModelServerConfig of TF Serving in text format"),
        (read_tls_keys, 'server_key: "key.pem" server_cert: "x"', "server_key: expected a PEM text .* not a file name"),
        (read_tls_keys, f'server_key: "{PEM}"', "server_cert: expected a PEM text"),
        (
            read_tls_keys,
            f'server_key: "{PEM}" server_cert: "{PEM}" client_verify: true',
            "client_verify needs custom_ca",
        ),
    ],
)
def test_wrong_files_are_explained(write, read, text, message):
    with pytest.raises(InputError, match=message):
        read(write(text))


def test_a_file_that_is_not_there_is_explained(tmp_path):
    with pytest.raises(InputError, match="absent can't be read: No such file"):
        read_tls_keys(tmp_path / "absent")
