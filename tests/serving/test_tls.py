"""TLS and mutual TLS with certificates made here."""

import datetime
import ipaddress

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

import tf_hqgnn  # noqa: F401
from tf_hqgnn.serving.config_files import read_tls_keys
from tf_hqgnn.serving.server import Server
from tf_hqgnn.types import InputError

from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc  # isort: skip


class Authority:
    """Signs certificates."""

    def __init__(self):
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test authority")])
        self.pem = self._sign(self._name, self._key, authority=True)

    def pair(self, name):
        """(private key, certificate for 127.0.0.1), PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        text = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        return text, self._sign(subject, key, authority=False)

    def _sign(self, subject, key, authority):
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
            )
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


AUTHORITY = Authority()
STRANGER = Authority()


@pytest.fixture
def start(export_dir, tmp_path):
    servers = []

    def start(**fields):
        text = "".join(
            f"{name}: {str(value).lower()}\n"
            if isinstance(value, bool)
            else f'{name}: "{value.decode()}"\n'.replace("\n", "\\n").removesuffix("\\n") + "\n"
            for name, value in fields.items()
        )
        path = tmp_path / "ssl.config"
        path.write_text(text)
        rest_port = None if fields.get("client_verify") else 0
        servers.append(Server(export_dir, grpc_port=0, rest_port=rest_port, tls_keys=read_tls_keys(path)))
        return servers[-1].start()

    yield start
    for server in servers:
        server.stop()


def status(server, *arguments):
    """The state of version 1, or the code of the failure."""
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "hqgnn"
    address = f"127.0.0.1:{server.grpc_port}"
    if arguments:
        channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(*arguments))
    else:
        channel = grpc.insecure_channel(address)
    with channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        try:
            [entry] = stub.GetModelStatus(request, timeout=60).model_version_status
        except grpc.RpcError as error:
            return error.code().name
    return get_model_status_pb2.ModelVersionStatus.State.Name(entry.state)


def test_tls_serves_those_who_trust_its_certificate_and_no_plain_text(start):
    key, certificate = AUTHORITY.pair("server")
    server = start(server_key=key, server_cert=certificate)
    assert status(server, AUTHORITY.pem) == "AVAILABLE"
    assert status(server, STRANGER.pem) == "UNAVAILABLE"
    assert status(server) == "UNAVAILABLE"


def test_mutual_tls_serves_those_whose_certificate_it_trusts(start):
    key, certificate = AUTHORITY.pair("server")
    server = start(server_key=key, server_cert=certificate, custom_ca=AUTHORITY.pem, client_verify=True)
    assert status(server, AUTHORITY.pem, *AUTHORITY.pair("client")) == "AVAILABLE"
    assert status(server, AUTHORITY.pem, *STRANGER.pair("client")) == "UNAVAILABLE"
    assert status(server, AUTHORITY.pem) == "UNAVAILABLE"


def test_keys_that_are_none_are_explained(start):
    _, certificate = AUTHORITY.pair("server")
    broken = b"-----BEGIN PRIVATE KEY-----\nYWJj\n-----END PRIVATE KEY-----\n"
    with pytest.raises(InputError, match="keys of --ssl_config_file aren't a matching pair"):
        start(server_key=broken, server_cert=certificate)
