"""The compiled pipeline as on a cluster: pods that share nothing but two claims, S3 and ML Metadata between them."""

from __future__ import annotations

import copy
import json
from types import SimpleNamespace

import pod_root
import pytest
import tensorflow as tf
import yaml
from kubeflow_harness import ENVIRONMENT, LOGS, TFX_MODULES
from kubeflow_platform import DriverError, Platform
from metadata_service import MetadataService
from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd
from object_store import ObjectStore
from pipeline_components import COMPONENTS
from warm_python import WarmPython

from tf_hqgnn.export.layout import MODEL_NAMES
from tf_hqgnn.export.loading import load_saved_model
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.tfx.model_store import read_pointer

pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(not pod_root.is_possible(), reason="a pod's root folder and user need root, on Linux"),
]

BUCKET = "artifacts"
CLAIMS = ("models", "store")
NOBODY = "somebody new"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("platform")


@pytest.fixture(scope="module")
def python(folder):
    with WarmPython(folder, TFX_MODULES, ENVIRONMENT) as python:
        yield python


@pytest.fixture(scope="module")
def store(folder):
    with ObjectStore(BUCKET, folder / "s3.log") as store:
        yield store


@pytest.fixture(scope="module")
def metadata(folder):
    with MetadataService(folder / "metadata.sqlite") as service:
        yield service


@pytest.fixture(scope="module")
def spec(folder, python, odd_log):
    out, log = folder / "pipeline.yaml", folder / "compile.log"
    words = ["python", "-m", "pipelines.run_kubeflow", "--image", "example/tf-hqgnn:1", "--config", odd_log.config]
    words += ["--data", "/mnt/data/log.parquet", "--items", "/mnt/data/items.csv", "--min-lift", 0, "--out", out]
    assert python.run(words, ENVIRONMENT | {"HOME": str(folder)}, folder, log) == 0, log.read_text()
    return next(yaml.safe_load_all(out.read_text()))


@pytest.fixture(scope="module")
def claims(folder):
    """As a volume of a cluster whose pods have the group 0: every step may write."""
    made = {}
    for name in CLAIMS:
        made[name] = folder / name
        made[name].mkdir()
        made[name].chmod(0o2777)
    return SimpleNamespace(**made)


@pytest.fixture(scope="module")
def new_platform(folder, python, store, metadata, claims, odd_log):
    """Makes a run of a pipeline."""

    def make(spec: dict, run_id: str) -> Platform:
        volumes = {f"/mnt/{name}": getattr(claims, name) for name in CLAIMS} | {"/mnt/data": odd_log.data.parent}
        return Platform(folder / run_id, spec, python, store, metadata.port, f"s3://{BUCKET}/v2", volumes, run_id)

    return make


@pytest.fixture(scope="module")
def platform(new_platform, spec, odd_log):
    # The tests' own folders are only for their user.
    for path in (odd_log.data, odd_log.items):
        path.chmod(0o644)
    odd_log.data.parent.chmod(0o755)
    platform = new_platform(spec, "run-1")
    platform.run({"max_epochs": 2})
    return platform


def declared(spec: dict, task: str) -> set[str]:
    return set(spec["components"][task].get("outputDefinitions", {}).get("artifacts", {}))


def test_the_model_is_pushed_and_answers(platform, claims, tmp_path):
    pointer = read_pointer(claims.store)
    assert pointer["models"] == {name: f"/mnt/models/{name}/1" for name in MODEL_NAMES}
    run = RunDirectory.load(platform.output("Trainer", "model_run", tmp_path / "model_run") / "run")
    users = run.dataset.user_ids[:20]
    evaluation = platform.output("RankingEvaluator", "evaluation", tmp_path / "evaluation") / "metrics.json"
    assert pointer["evaluation"] == json.loads(evaluation.read_text())
    for name in MODEL_NAMES:
        model = load_saved_model(claims.models / name / "1")
        answer = {
            key: value.numpy()
            for key, value in model.signatures["serving_default"](tf.constant([*users, NOBODY])).items()
        }
        assert answer["known_user"].tolist() == [True] * len(users) + [False]
        known = {item.encode() for item in run.dataset.item_ids}
        for items, count in zip(answer["item_id"], answer["num_valid"], strict=True):
            assert count == len(set(items[:count]) & known) > 0


def test_every_step_ran_as_another_user_and_left_nothing_but_its_outputs(platform, store, spec):
    uids = {task: pod.uid for task, pod in platform.pods.items()}
    assert set(uids) == set(COMPONENTS) | {"RunCheck"} == set(spec["root"]["dag"]["tasks"])
    assert len(set(uids.values())) == len(uids)
    assert 0 not in uids.values()
    for task in uids:
        prefixes = {key.split("/")[6] for key in store.keys(f"s3://{BUCKET}/v2/tf-hqgnn/run-1/{task}")}
        names = {name.partition("-")[0] if name.startswith(tuple(declared(spec, task))) else name for name in prefixes}
        assert names <= declared(spec, task) | {f"{LOGS}-0"}


def test_lineage_is_complete(platform, metadata, spec):
    """Asked by ML Metadata's own client; what is expected is in the compiled pipeline."""
    client = MetadataStore(mlmd.MetadataStoreClientConfig(host="127.0.0.1", port=metadata.port))
    run = client.get_context_by_type_and_name("system.PipelineRun", "run-1")
    assert [parent.name for parent in client.get_parent_contexts_by_context(run.id)] == ["tf-hqgnn"]
    executions = {
        execution.custom_properties["task_name"].string_value: execution
        for execution in client.get_executions_by_context(run.id)
        if execution.type == "system.ContainerExecution"
    }
    tasks = spec["root"]["dag"]["tasks"]
    assert set(executions) == set(tasks)
    assert {execution.last_known_state for execution in executions.values()} == {mlmd.Execution.COMPLETE}
    numbers = {execution.id: task for task, execution in executions.items()}
    made, taken = {}, {}
    for event in client.get_events_by_execution_ids(list(numbers)):
        side = made if event.type == mlmd.Event.OUTPUT else taken
        key = numbers[event.execution_id], event.path.steps[0].key
        assert key not in side
        side[key] = event.artifact_id
    assert set(made) == {(task, name) for task in tasks for name in declared(spec, task) | {LOGS}}
    for task, definition in tasks.items():
        for name, source in definition.get("inputs", {}).get("artifacts", {}).items():
            output = source["taskOutputArtifact"]
            assert taken.pop((task, name)) == made[output["producerTask"], output["outputArtifactKey"]]
    assert taken == {}
    artifacts = {artifact.id: artifact for artifact in client.get_artifacts_by_id(list(made.values()))}
    for (task, name), number in made.items():
        artifact = artifacts[number]
        assert artifact.state == mlmd.Artifact.LIVE
        assert artifact.uri.startswith(f"s3://{BUCKET}/v2/tf-hqgnn/run-1/{task}/")
        # Each attempt has a folder of its own, by the pod's number; Kubeflow counts the logs itself.
        attempt = "0" if name == LOGS else executions[task].custom_properties["pod_uid"].string_value
        assert artifact.uri.endswith(f"{name}-{attempt}")
        # The pushed models are on the claim.
        assert bool(platform.store.keys(artifact.uri)) == (task != "Pusher" or name == LOGS)
    pushed = artifacts[made["Pusher", "pushed_model"]].custom_properties
    assert pushed["pushed_destination"].string_value == "/mnt/models/hqgnn/1"
    blessing = artifacts[made["RankingEvaluator", "blessing"]].custom_properties
    assert blessing["current_model_id"].string_value == str(made["Trainer", "model"])


def container(*code: str) -> dict:
    return {"container": {"image": "example", "command": ["python", "-c", "\n".join(code)], "args": ["{{$}}"]}}


PROLOGUE = """
import json, os, pathlib, sys
message = json.loads(sys.argv[1])
"""
# Writes where a careless step might leave what the next one reads, and one output that it declares.
CARELESS = """
made = pathlib.Path("/" + message["outputs"]["artifacts"]["declared"]["artifacts"][0]["uri"].replace("://", "/"))
made.mkdir()
(made / "file").write_text("declared")
places = [made.with_name("undeclared"), *map(pathlib.Path, ("undeclared", os.environ["HOME"] + "/undeclared2"))]
places += map(pathlib.Path, ("/tmp/undeclared", "/dev/shm/undeclared", "/mnt/models/claimed"))
for place in places:
    place.write_text("undeclared")
pathlib.Path("/mnt/models/places").write_text(json.dumps([str(place) for place in places]))
"""
NEXT = """
made = pathlib.Path("/" + message["inputs"]["artifacts"]["given"]["artifacts"][0]["uri"].replace("://", "/"))
assert (made / "file").read_text() == "declared"
found = [place for place in json.loads(pathlib.Path("/mnt/models/places").read_text()) if pathlib.Path(place).exists()]
assert found == ["/mnt/models/claimed"], found
"""
SPEC = {
    "pipelineInfo": {"name": "careless"},
    "root": {
        "inputDefinitions": {"parameters": {}},
        "dag": {
            "tasks": {
                "Careless": {"componentRef": {"name": "Careless"}},
                "Next": {
                    "componentRef": {"name": "Next"},
                    "dependentTasks": ["Careless"],
                    "inputs": {
                        "artifacts": {
                            "given": {
                                "taskOutputArtifact": {"producerTask": "Careless", "outputArtifactKey": "declared"}
                            }
                        }
                    },
                },
            }
        },
    },
    "components": {
        "Careless": {
            "executorLabel": "careless",
            "outputDefinitions": {"artifacts": {"declared": {"artifactType": {"schemaTitle": "system.Dataset"}}}},
        },
        "Next": {"executorLabel": "next"},
    },
    "deploymentSpec": {"executors": {"careless": container(PROLOGUE, CARELESS), "next": container(PROLOGUE, NEXT)}},
}


def test_a_step_sees_of_an_earlier_one_its_declared_outputs_and_the_claims_alone(new_platform):
    new_platform(SPEC, "careless-1").run({})


def test_an_output_that_a_step_does_not_declare_is_missing_for_the_next(new_platform):
    """The step makes it all the same, where the next one would look for it."""
    spec = copy.deepcopy(SPEC)
    spec["components"]["Careless"]["outputDefinitions"]["artifacts"] = {}
    code = CARELESS.replace(
        '"/" + message["outputs"]["artifacts"]["declared"]["artifacts"][0]["uri"].replace("://", "/")',
        'pathlib.Path(message["outputs"]["outputFile"]).with_name("declared")',
    )
    spec["deploymentSpec"]["executors"]["careless"] = container(PROLOGUE, code)
    with pytest.raises(DriverError, match="cannot find output artifact key declared in producer task Careless"):
        new_platform(spec, "careless-2").run({})
