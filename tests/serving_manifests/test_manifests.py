"""Kubernetes manifests, KServe's, and docker-compose.yaml: schemas where a package has them, our own rules besides."""

from __future__ import annotations

import copy
import json
import subprocess
from pathlib import Path

import pytest
import server_flags
import yaml
from google.protobuf import text_format
from manifest_lint import lint
from tensorflow_serving.config import model_server_config_pb2

ROOT = Path(__file__).resolve().parents[2]
SERVING = ROOT / "serving"
PYTHON = ROOT / ".venv-serving" / "bin" / "python"
# An old Kubernetes that has gRPC probes and autoscaling/v2 as stable, and a recent one.
KUBERNETES = ("1.29", "1.34")
VARIANTS = ("hqgnn", "gpu", "scann")

# In kubernetes-validate's own environment: [[version, documents], ..] -> [problem or null, ..].
SCHEMA_CHECK = """
import json, sys
import kubernetes_validate
answers = []
for version, document in json.load(sys.stdin):
    try:
        kubernetes_validate.validate(document, version, strict=True)
        answers.append(None)
    except Exception as error:
        answers.append(f"{type(error).__name__}: {getattr(error, 'message', error)}")
json.dump(answers, sys.stdout)
"""


def documents(path: Path) -> list[dict]:
    return list(yaml.safe_load_all(path.read_text()))


KUSTOMIZATION = documents(SERVING / "kustomization.yaml")[0]
SHARED = [
    document
    for path in KUSTOMIZATION["resources"]
    if path != "kubernetes/hqgnn.yaml"
    for document in documents(SERVING / path)
]
CONFIG_MAPS = {
    generator["name"]: {name: (SERVING / name).read_text() for name in generator["files"]}
    for generator in KUSTOMIZATION["configMapGenerator"]
}
MODELS = {
    name: {
        model.name
        for model in text_format.Parse(
            (SERVING / name).read_text(), model_server_config_pb2.ModelServerConfig()
        ).model_config_list.config
    }
    for name in ("models.config", "models_scann.config")
}


def variant(name: str) -> list[dict]:
    return copy.deepcopy(SHARED) + documents(SERVING / "kubernetes" / f"{name}.yaml")


def schema_problems(pairs: list[tuple[str, dict]]) -> list[str | None]:
    assert PYTHON.exists(), f"{PYTHON} is missing: `make .venv-serving/.installed` makes it"
    done = subprocess.run(
        [PYTHON, "-c", SCHEMA_CHECK], input=json.dumps(pairs), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_kubernetes_schemas_accept_the_manifests_and_refuse_broken_ones():
    folders = (SERVING / "kubernetes", ROOT / "pipelines" / "kubernetes")
    good = [document for folder in folders for path in sorted(folder.glob("*.yaml")) for document in documents(path)]
    assert {document["kind"] for document in good} == {
        "Namespace",
        "PersistentVolume",
        "PersistentVolumeClaim",
        "NetworkPolicy",
        "Deployment",
        "Service",
        "PodDisruptionBudget",
        "HorizontalPodAutoscaler",
    }
    pairs = [(version, document) for version in KUBERNETES for document in good]
    wrong_type, unknown_field, no_selector = (copy.deepcopy(find(good, "Deployment")) for _ in range(3))
    wrong_type["spec"]["replicas"] = "three"
    unknown_field["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    del no_selector["spec"]["selector"]
    broken = [wrong_type, unknown_field, no_selector]
    problems = schema_problems(pairs + [(KUBERNETES[0], document) for document in broken])
    assert problems[: len(pairs)] == [None] * len(pairs)
    for problem, expected in zip(problems[len(pairs) :], ("three", "readynessProbe", "selector"), strict=True):
        assert problem is not None
        assert problem.startswith("ValidationError")
        assert expected in problem


def find(found: list[dict], kind: str) -> dict:
    return next(document for document in found if document["kind"] == kind)


def container(found: list[dict]) -> dict:
    return find(found, "Deployment")["spec"]["template"]["spec"]["containers"][0]


def pod(found: list[dict]) -> dict:
    return find(found, "Deployment")["spec"]["template"]["spec"]


@pytest.mark.parametrize("name", VARIANTS)
def test_manifests_fit_together(name):
    assert lint(variant(name), CONFIG_MAPS, MODELS) == []


def test_variants_can_run_side_by_side():
    names = [
        find(documents(SERVING / "kubernetes" / f"{name}.yaml"), "Deployment")["metadata"]["name"] for name in VARIANTS
    ]
    assert len(set(names)) == len(VARIANTS)
    together = SHARED + [item for name in VARIANTS for item in documents(SERVING / "kubernetes" / f"{name}.yaml")]
    assert lint(together, CONFIG_MAPS, MODELS) == []


def test_the_gpu_variant_asks_for_a_gpu_and_scann_for_its_instructions():
    assert container(variant("gpu"))["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert container(variant("gpu"))["image"].endswith("-gpu")
    assert set(pod(variant("scann"))["nodeSelector"].values()) == {"true"}
    assert {key.rpartition(".")[2] for key in pod(variant("scann"))["nodeSelector"]} == {"AVX2", "FMA3"}


BREAKS = {
    "probe removed": (lambda found: container(found).pop("readinessProbe"), "readinessProbe doesn't ask for AVAILABLE"),
    "readiness by gRPC health": (
        lambda found: container(found).update(readinessProbe={"grpc": {"port": 8500}}),
        "readinessProbe doesn't ask for AVAILABLE",
    ),
    "probe of another model": (
        lambda found: container(found)["readinessProbe"]["exec"]["command"].__setitem__(3, "ranker"),
        "asks for ranker",
    ),
    "probe of another port": (
        lambda found: container(found)["startupProbe"]["exec"]["command"].__setitem__(2, "8080"),
        "startupProbe asks port 8080",
    ),
    "impatient start": (lambda found: container(found)["startupProbe"].update(failureThreshold=3), "gives up"),
    "no liveness": (lambda found: container(found).pop("livenessProbe"), "livenessProbe"),
    "root": (lambda found: pod(found)["securityContext"].update(runAsUser=0), "runs as root"),
    "no seccomp": (lambda found: pod(found)["securityContext"].pop("seccompProfile"), "seccomp"),
    "writable root": (
        lambda found: container(found)["securityContext"].update(readOnlyRootFilesystem=False),
        "can write to its root",
    ),
    "capabilities": (lambda found: container(found)["securityContext"].pop("capabilities"), "keeps capabilities"),
    "escalation": (lambda found: container(found).pop("securityContext"), "allows privilege escalation"),
    "token": (lambda found: pod(found).pop("automountServiceAccountToken"), "service account token"),
    "no limit": (lambda found: container(found)["resources"]["limits"].pop("memory"), "has no limits of memory"),
    "memory overcommitted": (
        lambda found: container(found)["resources"]["requests"].update(memory="1Mi"),
        "limit and request differ",
    ),
    "selector": (
        lambda found: find(found, "Deployment")["spec"]["selector"]["matchLabels"].update(
            {"app.kubernetes.io/name": "x"}
        ),
        "selector doesn't match",
    ),
    "service": (
        lambda found: find(found, "Service")["spec"]["selector"].update(tier="web"),
        "Service hqgnn: selects []",
    ),
    "target port": (
        lambda found: find(found, "Service")["spec"]["ports"][0].update(targetPort="http"),
        "targetPort http is no port",
    ),
    "no budget": (lambda found: found.remove(find(found, "PodDisruptionBudget")), "has no PodDisruptionBudget"),
    "autoscaler": (
        lambda found: find(found, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"].update(name="x"),
        "scales x",
    ),
    "one replica": (
        lambda found: find(found, "HorizontalPodAutoscaler")["spec"].update(minReplicas=1),
        "expected 2 <=",
    ),
    "port flag": (lambda found: container(found)["args"].__setitem__(0, "--port=9000"), "aren't those of the flags"),
    "mistyped flag": (lambda found: container(found)["args"].append("--rest_port=1"), "unknown flag --rest_port=1"),
    "no XLA": (
        lambda found: container(found)["args"].remove("--xla_cpu_compilation_enabled=true"),
        "--xla_cpu_compilation_enabled=true is missing",
    ),
    "labels at start": (
        lambda found: container(found)["args"].remove("--allow_version_labels_for_unavailable_models=true"),
        "labels can't be read at start",
    ),
    "batching": (lambda found: container(found)["args"].append("--enable_batching=true"), "scalar k fail"),
    "polled config": (
        lambda found: container(found)["args"].append("--model_config_file_poll_wait_seconds=5"),
        "undoes what serving/label.py did",
    ),
    "config not mounted": (
        lambda found: container(found)["args"].__setitem__(2, "--model_config_file=/etc/models.config"),
        "--model_config_file=/etc/models.config isn't mounted",
    ),
    "writable models": (lambda found: container(found)["volumeMounts"][0].pop("readOnly"), "can write to /models"),
    "other claim": (
        lambda found: pod(found)["volumes"][0]["persistentVolumeClaim"].update(claimName="x"),
        "expected a read-only claim",
    ),
    "other config map": (lambda found: pod(found)["volumes"][1]["configMap"].update(name="x"), "no ConfigMap x"),
    "latest": (lambda found: container(found).update(image="tensorflow/serving:latest"), "isn't pinned"),
    "no tag": (lambda found: container(found).update(image="tensorflow/serving"), "isn't pinned"),
    "namespace": (lambda found: find(found, "Service")["metadata"].update(namespace="default"), "is in a namespace"),
    "open network": (
        lambda found: found.remove(find(found, "NetworkPolicy")),
        "nothing denies what isn't allowed",
    ),
    "closed port": (
        lambda found: [
            document["spec"]["ingress"][0]["ports"].pop(0)
            for document in found
            if document["kind"] == "NetworkPolicy" and document["metadata"]["name"] == "clients"
        ],
        "network policies allow [8501], it listens on [8500, 8501]",
    ),
    "anyone": (
        lambda found: [
            document["spec"]["ingress"][0].pop("from")
            for document in found
            if document["kind"] == "NetworkPolicy" and document["metadata"]["name"] == "clients"
        ],
        "lets anyone in",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_lint_finds_what_is_broken(name):
    change, expected = BREAKS[name]
    found = variant("hqgnn")
    change(found)
    assert expected in "\n".join(lint(found, CONFIG_MAPS, MODELS))


def kserve_problems(runtime: dict, service: dict) -> list[str]:
    """KServe's resources have no schema in the package: the fields that we use, and that they fit."""
    problems = []
    if (runtime["apiVersion"], runtime["kind"]) != ("serving.kserve.io/v1alpha1", "ServingRuntime"):
        problems.append("not a ServingRuntime")
    if (service["apiVersion"], service["kind"]) != ("serving.kserve.io/v1beta1", "InferenceService"):
        problems.append("not an InferenceService")
    model, (server,) = service["spec"]["predictor"]["model"], runtime["spec"]["containers"]
    flags, wrong = server_flags.parse(server["args"])
    problems += wrong
    if server["name"] != "kserve-container":
        problems.append("KServe looks for the container kserve-container")
    if (flags.get("port"), flags.get("rest_api_port")) != ("9000", "8080"):
        problems.append("KServe's ports are 9000 for gRPC and 8080 for REST")
    if flags.get("model_base_path") != "/mnt/models" or flags.get("model_name") != "{{.Name}}":
        problems.append("KServe puts the model at /mnt/models, under the service's name")
    security = server["securityContext"]
    if (security["runAsUser"], security["readOnlyRootFilesystem"]) != (1000, True):
        problems.append("expected uid 1000 and a read-only root")
    if model["runtime"] != runtime["metadata"]["name"]:
        problems.append("no such runtime")
    formats = [{key: item[key] for key in ("name", "version")} for item in runtime["spec"]["supportedModelFormats"]]
    if model["modelFormat"] not in formats:
        problems.append("the runtime doesn't support the format")
    if not model["storageUri"].startswith("pvc://models/"):
        problems.append("storageUri isn't on the claim of kubernetes/models.yaml")
    if {port["containerPort"] for port in model["ports"]} - {8080, 9000}:
        problems.append("a port that TF Serving doesn't listen on")
    probe = model["readinessProbe"]["exec"]["command"][-1]
    if "/dev/tcp/127.0.0.1/8080" not in probe or f"/v1/models/{service['metadata']['name']} " not in probe:
        problems.append("readinessProbe asks for another port or model")
    if runtime["metadata"]["namespace"] != service["metadata"]["namespace"]:
        problems.append("two namespaces")
    return problems


def test_kserve():
    assert kserve_problems(*documents(SERVING / "kserve" / "inferenceservice.yaml")) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda runtime, service: runtime["spec"]["containers"][0]["args"].__setitem__(0, "--port=8500"),
            "ports are 9000",
        ),
        (lambda runtime, service: service["spec"]["predictor"]["model"].update(runtime="x"), "no such runtime"),
        (lambda runtime, service: service["metadata"].update(name="other"), "another port or model"),
        (lambda runtime, service: runtime["spec"]["containers"][0].update(name="server"), "kserve-container"),
    ],
)
def test_kserve_broken(change, expected):
    runtime, service = documents(SERVING / "kserve" / "inferenceservice.yaml")
    change(runtime, service)
    assert expected in "\n".join(kserve_problems(runtime, service))


def compose_problems(compose: dict) -> list[str]:
    problems, taken = [], []
    for name, service in compose["services"].items():
        flags, wrong = server_flags.parse(service["command"])
        problems += [f"{name}: {problem}" for problem in wrong]
        if service["user"] != "1000:1000" or not service["read_only"] or service["cap_drop"] != ["ALL"]:
            problems.append(f"{name}: has rights that it doesn't need")
        if not service.get("mem_limit") or not service.get("cpus"):
            problems.append(f"{name}: has no limits")
        for port in service["ports"]:
            address, outside, inside = port.split(":")
            taken.append(outside)
            if address != "127.0.0.1" or inside not in (flags["port"], flags["rest_api_port"]):
                problems.append(f"{name}: port {port}")
        config = flags["model_config_file"].removeprefix("/etc/tf_serving/")
        _, *command = service["healthcheck"]["test"]
        if command != ["bash", "/etc/tf_serving/available.sh", flags["rest_api_port"], *MODELS.get(config, ["?"])]:
            problems.append(f"{name}: healthcheck {command}")
        for volume in service["volumes"]:
            if not volume.endswith(":ro"):
                problems.append(f"{name}: can write to {volume}")
        if "build" in service and not (SERVING / service["build"]["context"] / service["build"]["dockerfile"]).exists():
            problems.append(f"{name}: no {service['build']['dockerfile']}")
    if len(set(taken)) != len(taken):
        problems.append("two services want one port")
    return problems


def test_compose():
    (compose,) = documents(SERVING / "docker-compose.yaml")
    assert set(compose["services"]) == {"hqgnn", "hqgnn-gpu", "hqgnn-scann"}
    assert compose_problems(compose) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"ports": ["0.0.0.0:8500:8500"]}, "port 0.0.0.0"),
        ({"ports": ["127.0.0.1:8500:8600"]}, "port 127.0.0.1:8500:8600"),
        ({"user": "root"}, "rights"),
        ({"mem_limit": None}, "no limits"),
        ({"volumes": ["./models:/models"]}, "can write"),
        ({"healthcheck": {"test": ["CMD", "true"]}}, "healthcheck"),
    ],
)
def test_compose_broken(change, expected):
    (compose,) = documents(SERVING / "docker-compose.yaml")
    compose["services"]["hqgnn"] = {**compose["services"]["hqgnn"], **change}
    assert expected in "\n".join(compose_problems(compose))
