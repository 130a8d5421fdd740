"""Kubernetes manifests: by the schemas of Kubernetes, by kustomize, and by our own rules."""

from __future__ import annotations

import copy
import json
import subprocess
from pathlib import Path

import pytest
import yaml
from google.protobuf import text_format
from manifest_lint import lint
from tensorflow_serving.config import model_server_config_pb2

ROOT = Path(__file__).resolve().parents[2]
SERVING = ROOT / "serving"
KUSTOMIZE = ROOT / ".kustomize" / "kustomize"
PYTHON = ROOT / ".venv-serving" / "bin" / "python"
# An old one that has gRPC probes and autoscaling/v2 as stable, and the three that are supported in November 2026.
KUBERNETES = ("1.29", "1.35", "1.36", "1.37")
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
    paths = [path for folder in folders for path in sorted(folder.glob("*.yaml"))]
    good = [document for path in [*paths, SERVING / "kserve" / "network.yaml"] for document in documents(path)]
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
    wrong_type["spec"]["minReadySeconds"] = "three"
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


def test_kustomize_builds_what_is_checked_here():
    if not KUSTOMIZE.exists():
        pytest.skip(
            f"{KUSTOMIZE.relative_to(ROOT)} isn't there: `make .kustomize/kustomize` builds it where there is Go"
        )
    done = subprocess.run([KUSTOMIZE, "build", SERVING], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    built = list(yaml.safe_load_all(done.stdout))
    maps = [document for document in built if document["kind"] == "ConfigMap"]
    assert {document["metadata"]["name"]: document["data"] for document in maps} == CONFIG_MAPS
    rest = [document for document in built if document["kind"] != "ConfigMap"]
    assert sorted(map(json.dumps, map(_sorted, rest))) == sorted(map(json.dumps, map(_sorted, variant("hqgnn"))))


def _sorted(document: dict) -> dict:
    return json.loads(json.dumps(document, sort_keys=True))


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
    "replicas beside an autoscaler": (
        lambda found: find(found, "Deployment")["spec"].update(replicas=3),
        "HorizontalPodAutoscaler hqgnn: each apply of hqgnn sets the number of its pods back",
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
    "latest": (lambda found: container(found).update(image="docker.io/tensorflow/serving:latest"), "isn't pinned"),
    "no tag": (lambda found: container(found).update(image="docker.io/tensorflow/serving"), "isn't pinned"),
    "no registry": (lambda found: container(found).update(image="tensorflow/serving:2.16.1"), "isn't pinned"),
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
