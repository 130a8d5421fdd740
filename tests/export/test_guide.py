"""The guide in an export names what its signatures take and return, and its requests are answered as they are.

That is what docs/requests.md says of them.
"""

import json
import re
import shlex
import urllib.request

import grpc
import pytest
import tensorflow as tf
from export_oracle import make_bundle, with_user_features
from google.protobuf import json_format
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tf_hqgnn.config import ExportConfig
from tf_hqgnn.export.bundle import export_exact
from tf_hqgnn.export.layout import GUIDE_FILE, READY_REQUESTS, SAVED_MODEL_FILE
from tf_hqgnn.export.signature_guide import SIGNATURES
from tf_hqgnn.serving.server import Server

GUIDES = {guide.name: guide for guide in SIGNATURES}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The folder of a version whose users have odd IDs, one of them the first."""
    return export_exact(with_user_features(make_bundle()), tmp_path_factory.mktemp("export"), ExportConfig(), version=1)


@pytest.fixture(scope="module")
def server(exported):
    with Server(exported.parents[1], grpc_port=0, rest_port=0) as server:
        yield server


@pytest.fixture(scope="module")
def signatures(exported):
    saved = saved_model_pb2.SavedModel.FromString((exported / SAVED_MODEL_FILE).read_bytes())
    return {name: one for name, one in saved.meta_graphs[0].signature_def.items() if not name.startswith("__")}


def test_the_guide_has_every_tensor_with_its_type_and_rank(signatures):
    assert GUIDES.keys() == signatures.keys()
    for name, guide in GUIDES.items():
        for told, infos in ((guide.inputs, signatures[name].inputs), (guide.outputs, signatures[name].outputs)):
            assert [one.name for one in told if one.name in infos] == [one.name for one in told], name
            assert len(told) == len(infos), name
            for one in told:
                info = infos[one.name]
                assert one.dtype == tf.as_dtype(info.dtype).name, (name, one.name)
                sizes = re.findall(r"\w+", re.split(" or ", one.shape)[0])
                if not info.tensor_shape.unknown_rank:
                    assert len(sizes) == len(info.tensor_shape.dim), (name, one.name)
                assert one.meaning.endswith("."), one


@pytest.mark.parametrize("name", GUIDES)
def test_a_ready_request_is_answered(exported, server, name):
    body = (exported / READY_REQUESTS / f"{name}.json").read_bytes()
    address = f"http://127.0.0.1:{server.rest_port}/v1/models/hqgnn:predict"
    asked = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=60) as response:
        assert response.status == 200
        outputs = json.load(response)["outputs"]
    assert outputs.keys() == {one.name for one in GUIDES[name].outputs}
    # An ID of the model, so that the answer is one: the placeholder of a guide would be nobody's.
    known = [outputs[key] for key in ("known_user", "known_item") if key in outputs]
    assert str(known).count("True") == len(known)


@pytest.mark.parametrize("name", GUIDES)
def test_the_line_of_grpcurl_asks_the_same(exported, server, name):
    readme = (exported / GUIDE_FILE).read_text(encoding="utf-8")
    section = readme.partition(f"## {name}\n")[2].partition("\n## ")[0]
    (line,) = re.findall(r"^grpcurl .*$", section, re.MULTILINE)
    words = shlex.split(line)
    assert words[-2:] == ["localhost:8500", "tensorflow.serving.PredictionService/Predict"]
    request = json_format.Parse(words[words.index("-d") + 1], predict_pb2.PredictRequest())
    assert request.model_spec.signature_name == name
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=60)
    assert response.outputs.keys() == {one.name for one in GUIDES[name].outputs}
    assert f"-d @requests/{name}.json" in section


def test_the_program_in_c_has_the_names_of_this_export(exported, signatures):
    readme = (exported / GUIDE_FILE).read_text(encoding="utf-8")
    program = readme.partition("```c\n")[2].partition("```")[0]
    found = re.findall(r'TF_GraphOperationByName\(graph, "([^"]+)"\), (\d+)}', program)
    inputs, outputs = signatures["recommend"].inputs, signatures["recommend"].outputs
    expected = [inputs[name].name for name in ("user_id", "k", "exclude_item_id", "category")]
    assert [f"{name}:{index}" for name, index in found] == [*expected, outputs["item_id"].name]
    assert "@" not in program
