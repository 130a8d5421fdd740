"""label.py against servers that ask for certificates: the local server of this package, with keys made here."""

from __future__ import annotations

import datetime
import ipaddress

import label
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

import tf_hqgnn  # noqa: F401  (before TensorFlow)

import tensorflow as tf  # isort: skip

from tf_hqgnn.serving import config_files
from tf_hqgnn.serving.server import Server

CONFIG = """model_config_list {
  config {
    name: "hqgnn" base_path: "%s" model_platform: "tensorflow"
    model_version_policy { specific { versions: 1 } }
    version_labels { key: "stable" value: 1 }
  }
}
"""


def self_signed():
    """(private key, certificate), PEM; the certificate is its own authority, for 127.0.0.1 and tf-serving."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.timezone.utc)
    names = [x509.DNSName("tf-serving"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private.decode(), certificate.public_bytes(serialization.Encoding.PEM).decode()


class Model(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def serve(self, user_id):
        return {"same": user_id}


@pytest.fixture
def server(tmp_path):
    """Asks for a certificate that `own.pem` has; `server.pem` is its own."""
    model = Model()
    for version in (1, 2):
        tf.saved_model.save(model, str(tmp_path / "hqgnn" / str(version)), signatures={"serving_default": model.serve})
    (key, certificate), (own_key, own) = self_signed(), self_signed()
    for name, text in (("server", certificate), ("own", own), ("own_key", own_key)):
        (tmp_path / f"{name}.pem").write_text(text)
    config = tmp_path / "models.config"
    config.write_text(CONFIG % (tmp_path / "hqgnn"))
    models = config_files.read_model_configs(config)
    keys = config_files.TlsKeys(key, certificate, own, client_verify=True)
    with Server(None, grpc_port=0, rest_port=None, models=models, poll_seconds=0.02, tls_keys=keys) as server:
        yield server


def test_labels_move_with_certificates_and_not_without(server, tmp_path, capsys):
    def run(host, version, **files):
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in files.items()]
        command = ["--server", f"{host}:{server.grpc_port}", "--config", str(tmp_path / "models.config"), *flags]
        return label.main([*command, "--model=hqgnn", "--label=stable", f"--version={version}", "--timeout=60"])

    own = {"cert_file": tmp_path / "own.pem", "key_file": tmp_path / "own_key.pem"}
    ca = {"ca_file": tmp_path / "server.pem"}
    for files in ({}, ca, {"ca_file": tmp_path / "own.pem", **own}):
        assert run("127.0.0.1", 2, **files) == 1
        assert "UNAVAILABLE" in capsys.readouterr().err
    assert run("127.0.0.1", 2, **ca, **own) == 0
    assert capsys.readouterr().out == "hqgnn: stable 2 (1 server)\n"
    # Forwarded ports are localhost's, and the certificate is the service's.
    assert run("localhost", 1, **ca, **own) == 1
    assert run("localhost", 1, **ca, **own, server_name="tf-serving") == 0
    assert server.manager.labelled("hqgnn", "stable") == 1


def test_wrong_files_are_explained(tmp_path, capsys):
    command = ["--server=localhost:1", "--model=a", "--label=stable", "--version=1"]
    with pytest.raises(SystemExit):
        label.main([*command, "--cert-file=a.pem"])
    assert "give --cert-file and --key-file" in capsys.readouterr().err
    (tmp_path / "models.config").write_text(CONFIG.replace('"hqgnn"', '"a"'))
    assert label.main([*command, f"--config={tmp_path / 'models.config'}", f"--ca-file={tmp_path / 'absent'}"]) == 1
    assert "absent: No such file or directory; name the PEM files of TLS" in capsys.readouterr().err
