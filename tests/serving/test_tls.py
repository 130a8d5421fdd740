"""TLS and mutual TLS with certificates made here."""

import json
import sys
import urllib.request

import grpc
import pytest
from certificates import Authority

import tf_hqgnn  # noqa: F401
from tf_hqgnn.cli.commands import main
from tf_hqgnn.serving.client import Client, ClientTls, ServerUnavailable
from tf_hqgnn.serving.config_files import read_tls_keys
from tf_hqgnn.serving.server import Server
from tf_hqgnn.types import InputError

from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc  # isort: skip


AUTHORITY = Authority()
STRANGER = Authority()


@pytest.fixture
def start(export_dir, tmp_path):
    servers = []

    def start(rest_port=None, plain_rest=False, **fields):
        options = {"rest_port": rest_port, "plain_rest": plain_rest}
        text = "".join(
            f"{name}: {str(value).lower()}\n"
            if isinstance(value, bool)
            else f'{name}: "{value.decode()}"\n'.replace("\n", "\\n").removesuffix("\\n") + "\n"
            for name, value in fields.items()
        )
        path = tmp_path / "ssl.config"
        path.write_text(text)
        servers.append(Server(export_dir, grpc_port=0, tls_keys=read_tls_keys(path), **options))
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


@pytest.fixture
def files(tmp_path):
    """Writes PEM texts; returns their paths."""

    def files(**texts):
        paths = {}
        for name, text in texts.items():
            paths[name] = tmp_path / f"{name}.pem"
            paths[name].write_bytes(text)
        return paths

    return files


def client_pair():
    key, certificate = AUTHORITY.pair("client")
    return {"key_file": key, "cert_file": certificate}


def test_rest_does_not_answer_what_grpc_answers_only_with_a_certificate(start):
    key, certificate = AUTHORITY.pair("server")
    keys = {"server_key": key, "server_cert": certificate}
    mutual = {**keys, "custom_ca": AUTHORITY.pem, "client_verify": True}
    with pytest.raises(InputError, match=r"close it with --rest-port 0, or open it nevertheless with --plain-rest"):
        start(rest_port=0, **mutual)
    for options in ({**mutual, "plain_rest": True}, keys):
        server = start(rest_port=0, **options)
        with urllib.request.urlopen(f"http://127.0.0.1:{server.rest_port}/v1/models/hqgnn", timeout=60) as response:
            assert response.status == 200


def test_the_client_shows_its_certificate_and_checks_the_servers(start, files):
    key, certificate = AUTHORITY.pair("server")
    server = start(server_key=key, server_cert=certificate, custom_ca=AUTHORITY.pem, client_verify=True)
    address = f"127.0.0.1:{server.grpc_port}"
    paths = files(ca_file=AUTHORITY.pem, stranger=STRANGER.pem, **client_pair())
    own = {"cert_file": paths["cert_file"], "key_file": paths["key_file"]}
    with Client(address, tls=ClientTls(paths["ca_file"], **own)) as client:
        assert client.recommend(["a"])[0].item_ids
    for tls in (None, ClientTls(paths["ca_file"]), ClientTls(paths["stranger"], **own), ClientTls(**own)):
        with Client(address, tls=tls) as client, pytest.raises(ServerUnavailable):
            client.recommend(["a"])
    with Client(address) as client, pytest.raises(ServerUnavailable, match="with TLS give --ca-file"):
        client.recommend(["a"])


def test_the_certificates_name_may_be_another_than_the_addresss(start, files):
    key, certificate = AUTHORITY.pair("server")
    server = start(server_key=key, server_cert=certificate)
    ca_file = files(ca_file=AUTHORITY.pem)["ca_file"]
    address = f"localhost:{server.grpc_port}"
    with Client(address, tls=ClientTls(ca_file)) as client, pytest.raises(ServerUnavailable):
        client.recommend(["a"])
    with Client(address, tls=ClientTls(ca_file, server_name="127.0.0.1")) as client:
        assert client.recommend(["a"])[0].item_ids


def test_recommend_on_the_command_line_speaks_tls(start, files, capsys, monkeypatch):
    key, certificate = AUTHORITY.pair("server")
    server = start(server_key=key, server_cert=certificate, custom_ca=AUTHORITY.pem, client_verify=True)
    paths = files(ca_file=AUTHORITY.pem, **client_pair())
    command = ["tf-hqgnn", "recommend", "--server", f"127.0.0.1:{server.grpc_port}", "--user", "a", "-k", "2", "--json"]
    for name in ("ca_file", "cert_file", "key_file"):
        command += [f"--{name.replace('_', '-')}", str(paths[name])]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert [item["item_id"] for item in json.loads(capsys.readouterr().out)["items"]] == ["100-0", "100-1"]


def test_wrong_files_of_a_client_are_explained(tmp_path):
    with pytest.raises(InputError, match=r"give --cert-file and --key-file"):
        ClientTls(cert_file=tmp_path / "a")
    with pytest.raises(InputError, match=r"absent can't be read: No such file"):
        Client(tls=ClientTls(tmp_path / "absent"))
    (tmp_path / "text").write_text("text")
    with pytest.raises(InputError, match=r"text: expected a PEM file"):
        Client(tls=ClientTls(tmp_path / "text"))
