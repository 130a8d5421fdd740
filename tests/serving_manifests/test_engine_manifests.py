"""Manifests of Flink's and Spark's operators: by the operators' own schemas, by Kubernetes', and that they fit Beam."""

import copy
import json
import subprocess
from pathlib import Path

import pytest
import yaml
from manifest_lint import is_pinned
from test_manifests import KUBERNETES, PYTHON, schema_problems

from tf_hqgnn.beam.flags import parse_flags

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parents[1] / "engines" / "kubernetes"
FLINK = list(yaml.safe_load_all((FOLDER / "flink.yaml").read_text()))
SPARK = list(yaml.safe_load_all((FOLDER / "spark.yaml").read_text()))
SCHEMAS = {path.stem: json.loads(path.read_text()) for path in (HERE / "crds").glob("*.json")}

# In the environment that has jsonschema: [[schema, document], ..] -> [problem or null, ..].
CHECK = """
import json, sys
import jsonschema
answers = []
for schema, document in json.load(sys.stdin):
    error = next(jsonschema.Draft202012Validator(schema).iter_errors(document), None)
    answers.append(error and f"{error.json_path}: {error.message}")
json.dump(answers, sys.stdout)
"""


def named(documents, kind, name=None):
    (found,) = [one for one in documents if one["kind"] == kind and name in (None, one["metadata"]["name"])]
    return found


def pod_of(document):
    """What the operator makes a pod of, as one that Kubernetes' own schema checks."""
    spec = document["spec"]
    if document["kind"] == "FlinkDeployment":
        pod = copy.deepcopy(spec["taskManager"]["podTemplate"]["spec"])
        # The operator gives it its image.
        pod["containers"][0]["image"] = spec["image"]
    else:
        main = {"name": "executor", "image": spec["image"], "securityContext": spec["executor"]["securityContext"]}
        main["volumeMounts"] = spec["executor"]["volumeMounts"]
        pod = {"containers": [main, *spec["executor"]["sidecars"]], "volumes": spec["volumes"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": pod}


def operator_problems(documents):
    pairs = []
    for document in documents:
        crd = SCHEMAS[document["kind"]]
        assert document["apiVersion"] == f"{crd['group']}/{crd['version']}"
        pairs.append([crd["schema"], document])
    done = subprocess.run(
        [PYTHON, "-c", CHECK], input=json.dumps(pairs), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_operators_schemas_accept_the_manifests_and_refuse_broken_ones():
    flink, spark = named(FLINK, "FlinkDeployment"), named(SPARK, "SparkApplication")
    broken = [copy.deepcopy(one) for one in (flink, flink, flink, spark, spark, spark)]
    broken[0]["spec"]["flinkVersion"] = "v1_12"
    broken[1]["spec"]["taskManager"]["replica"] = 2
    broken[2]["spec"]["taskManager"]["resource"]["memory"] = 4096
    broken[3]["spec"]["executor"]["sidecar"] = []
    broken[4]["spec"]["restartPolicy"]["type"] = "always"
    del broken[5]["spec"]["sparkVersion"]
    found = operator_problems([flink, spark, *broken])
    assert found[:2] == [None, None]
    words = (
        "'v1_12' is not one of",
        "replica",
        "4096 is not of type",
        "sidecar",
        "'always' is not one of",
        "sparkVersion",
    )
    for problem, word in zip(found[2:], words, strict=True):
        assert word in problem


def test_kubernetes_schemas_accept_the_rest_and_the_operators_pods():
    rest = [one for one in FLINK + SPARK if one["kind"] not in SCHEMAS]
    pods = [pod_of(named(FLINK, "FlinkDeployment")), pod_of(named(SPARK, "SparkApplication"))]
    broken = [copy.deepcopy(pod) for pod in pods]
    for pod in broken:
        pod["spec"]["containers"][1]["volumeMount"] = []
    documents = [*rest, *pods]
    found = schema_problems([(version, one) for version in KUBERNETES for one in documents])
    assert found == [None] * len(documents) * len(KUBERNETES)
    assert all("volumeMount" in problem for problem in schema_problems([(KUBERNETES[1], pod) for pod in broken]))


def test_the_batch_finds_the_job_server_and_a_pool_beside_each_task_manager():
    containers = named(FLINK, "Job")["spec"]["template"]["spec"]["containers"]
    flags = [word for word in containers[0]["args"] if "_" in word.partition("=")[0] or "runner" in word]
    options = parse_flags([word for word in flags if not word.startswith("--job_endpoint")]).get_all_options()
    given = dict(word.removeprefix("--").split("=", 1) for word in containers[0]["args"])
    service = named(FLINK, "Service")
    ports = {port["name"]: port["port"] for port in service["spec"]["ports"]}
    name = service["metadata"]["name"]
    assert (given["job_endpoint"], given["artifact_endpoint"]) == (
        f"{name}:{ports['job']}",
        f"{name}:{ports['artifact']}",
    )
    server = named(FLINK, "Deployment")["spec"]["template"]
    assert service["spec"]["selector"].items() <= server["metadata"]["labels"].items()
    arguments = dict(word.removeprefix("--").split("=", 1) for word in server["spec"]["containers"][0]["args"])
    assert (arguments["job-port"], arguments["artifact-port"]) == (str(ports["job"]), str(ports["artifact"]))
    # The operator names the service of Flink's REST after the deployment.
    deployment = named(FLINK, "FlinkDeployment")
    assert arguments["flink-master"] == given["flink_master"] == f"{deployment['metadata']['name']}-rest:8081"
    delay = deployment["spec"]["flinkConfiguration"]["restart-strategy.fixed-delay.delay"]
    assert int(options["environment_cache_millis"]) < int(delay.removesuffix(" s")) * 1000
    for document in (deployment, named(SPARK, "SparkApplication")):
        pool = pod_of(document)["spec"]["containers"][1]
        assert options["environment_config"] == f"localhost:{pool['command'][-1].removeprefix('--service_port=')}"


@pytest.mark.parametrize("documents", [FLINK, SPARK])
def test_model_and_output_are_at_one_place_and_shuffles_on_a_volume_of_their_own(documents):
    (document,) = [one for one in documents if one["kind"] in SCHEMAS]
    pod = pod_of(document)["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    engine, pool = pod["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in pool["volumeMounts"]}
    given = dict(word.removeprefix("--").split("=", 1) for word in _batch()["args"])
    assert all(given[name].startswith(f"{mounts['beam-data']}/") for name in ("model", "out"))
    assert volumes["beam-data"]["persistentVolumeClaim"] == {"claimName": "beam-data"}
    (scratch,) = [volume for name, volume in volumes.items() if name != "beam-data"]
    assert scratch["emptyDir"]["sizeLimit"]
    assert scratch["name"] in {mount["name"] for mount in engine["volumeMounts"]}
    if document["kind"] == "FlinkDeployment":
        assert document["spec"]["flinkConfiguration"]["io.tmp.dirs"] == engine["volumeMounts"][0]["mountPath"]
    else:
        assert scratch["name"].startswith("spark-local-dir-")
    assert all(is_pinned(one["image"]) for one in pod["containers"])
    assert {one["metadata"]["namespace"] for one in documents} == {"hqgnn"}


def _batch():
    (container,) = named(FLINK, "Job")["spec"]["template"]["spec"]["containers"]
    return container
