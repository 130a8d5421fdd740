"""KServe's manifests: by the schemas of its release 0.20, that they fit, and that the network policies fit its pods."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import server_flags
import yaml
from manifest_lint import is_pinned
from test_engine_manifests import operator_problems
from test_manifests import KUBERNETES, schema_problems

SERVING = Path(__file__).resolve().parents[2] / "serving"
NAME = "serving.kserve.io/inferenceservice"
# Of Knative's queue proxy: HTTP/1, h2c, TLS, and what the autoscaler reads.
KNATIVE_PORTS = {8012, 8013, 8112, 9090}


def documents(path: Path) -> list[dict]:
    return list(yaml.safe_load_all(path.read_text()))


RUNTIME, SERVICE = documents(SERVING / "kserve" / "inferenceservice.yaml")
POLICIES = documents(SERVING / "kserve" / "network.yaml") + documents(SERVING / "kubernetes" / "network.yaml")


def problems(runtime: dict, service: dict, policies: list[dict]) -> list[str]:
    """What no schema says of KServe's resources."""
    found = []
    if (runtime["apiVersion"], runtime["kind"]) != ("serving.kserve.io/v1alpha1", "ServingRuntime"):
        found.append("not a ServingRuntime")
    if (service["apiVersion"], service["kind"]) != ("serving.kserve.io/v1beta1", "InferenceService"):
        found.append("not an InferenceService")
    predictor = service["spec"]["predictor"]
    model, (server,) = predictor["model"], runtime["spec"]["containers"]
    flags, wrong = server_flags.parse(server["args"])
    found += wrong
    if server["name"] != "kserve-container":
        found.append("KServe looks for the container kserve-container")
    if not is_pinned(server["image"]):
        found.append(f"image {server['image']} isn't pinned")
    if (flags.get("port"), flags.get("rest_api_port")) != ("9000", "8080"):
        found.append("KServe's ports are 9000 for gRPC and 8080 for REST")
    if flags.get("model_base_path") != "/mnt/models" or flags.get("model_name") != "{{.Name}}":
        found.append("KServe puts the model at /mnt/models, under the service's name")
    security = server["securityContext"]
    if (security["runAsUser"], security["readOnlyRootFilesystem"]) != (1000, True):
        found.append("expected uid 1000 and a read-only root")
    if predictor.get("automountServiceAccountToken", True):
        found.append("mounts a service account token")
    if model["runtime"] != runtime["metadata"]["name"]:
        found.append("no such runtime")
    formats = [{key: item[key] for key in ("name", "version")} for item in runtime["spec"]["supportedModelFormats"]]
    if model["modelFormat"] not in formats:
        found.append("the runtime doesn't support the format")
    if not model["storageUri"].startswith("pvc://models/"):
        found.append("storageUri isn't on the claim of kubernetes/models.yaml")
    if {port["containerPort"] for port in model["ports"]} - {8080, 9000}:
        found.append("a port that TF Serving doesn't listen on")
    probe = model["readinessProbe"]["exec"]["command"][-1]
    if "/dev/tcp/127.0.0.1/8080" not in probe or f"/v1/models/{service['metadata']['name']} " not in probe:
        found.append("readinessProbe asks for another port or model")
    if runtime["metadata"]["namespace"] != service["metadata"]["namespace"]:
        found.append("two namespaces")
    return found + network_problems(service, policies)


def network_problems(service: dict, policies: list[dict]) -> list[str]:
    """Who must reach a pod that KServe makes, and can't; or can without being meant to."""
    labels = {NAME: service["metadata"]["name"], "component": "predictor"}
    allowed: dict[str, set[int]] = {}
    denied = False
    for policy in policies:
        spec = policy["spec"]
        if not spec["podSelector"].get("matchLabels", {}).items() <= labels.items():
            continue
        denied |= spec["policyTypes"] == ["Ingress", "Egress"] and "ingress" not in spec and "egress" not in spec
        for rule in spec.get("ingress", []):
            for peer in rule.get("from", [{}]):
                for name in _callers(peer):
                    allowed.setdefault(name, set()).update(port["port"] for port in rule["ports"])
    wanted = {
        "client": {9000, 8080},
        "knative-serving": KNATIVE_PORTS,
        "istio-system": KNATIVE_PORTS,
        "kourier-system": KNATIVE_PORTS,
        "monitoring": {8080, 9091},
    }
    found = [] if denied else ["nothing denies what isn't allowed"]
    if "anyone" in allowed:
        found.append("lets anyone in")
    return found + [
        f"{name} reaches {sorted(allowed.get(name, ()))}, expected {sorted(ports)}"
        for name, ports in wanted.items()
        if allowed.get(name, set()) != ports
    ]


def _callers(peer: dict) -> list[str]:
    if not peer:
        return ["anyone"]
    if "namespaceSelector" not in peer:
        return ["own namespace"]
    selector = peer["namespaceSelector"]
    labels = selector.get("matchLabels", {})
    names = [name for match in selector.get("matchExpressions", []) for name in match["values"]]
    if "hqgnn-client" in labels:
        names.append("client")
    return names + [labels[key] for key in labels if key == "kubernetes.io/metadata.name"] or ["anyone"]


def test_kserve():
    assert problems(RUNTIME, SERVICE, POLICIES) == []


def test_kserve_s_schemas_accept_the_manifests_and_refuse_broken_ones():
    broken = [copy.deepcopy(document) for document in (RUNTIME, RUNTIME, SERVICE, SERVICE, SERVICE)]
    broken[0]["spec"]["supportedModelFormat"] = []
    del broken[1]["spec"]["containers"]
    broken[2]["spec"]["predictor"]["model"]["storageURI"] = "pvc://models/hqgnn"
    broken[3]["spec"]["predictor"]["minReplicas"] = "two"
    broken[4]["spec"]["predictor"]["scaleMetric"] = "requests"
    found = operator_problems([RUNTIME, SERVICE, *broken])
    assert found[:2] == [None, None]
    words = ("supportedModelFormat", "'containers' is a required", "storageURI", "'two' is not of type", "'requests'")
    for problem, word in zip(found[2:], words, strict=True):
        assert word in problem


def test_kubernetes_schemas_accept_the_pod_that_kserve_makes():
    """The runtime's container, with what the service says of its model."""
    (server,) = RUNTIME["spec"]["containers"]
    model = SERVICE["spec"]["predictor"]["model"]
    pod = {"containers": [server | {key: model[key] for key in ("ports", "readinessProbe")}]}
    pod["automountServiceAccountToken"] = SERVICE["spec"]["predictor"]["automountServiceAccountToken"]
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "hqgnn"}, "spec": pod}
    broken = copy.deepcopy(document)
    broken["spec"]["containers"][0]["readinessProbe"]["exec"]["script"] = "true"
    found = schema_problems([(version, document) for version in KUBERNETES] + [(KUBERNETES[-1], broken)])
    assert found[:-1] == [None] * len(KUBERNETES)
    assert "script" in found[-1]


def test_the_policies_of_our_own_pods_alone_would_cut_kserve_off():
    alone = documents(SERVING / "kubernetes" / "network.yaml")
    assert any("client reaches []" in problem for problem in network_problems(SERVICE, alone))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda runtime, _service, _: runtime["spec"]["containers"][0]["args"].__setitem__(0, "--port=8500"), "9000"),
        (lambda _runtime, service, _: service["spec"]["predictor"]["model"].update(runtime="x"), "no such runtime"),
        (lambda _runtime, service, _: service["metadata"].update(name="other"), "another port or model"),
        (lambda runtime, _service, _: runtime["spec"]["containers"][0].update(name="server"), "kserve-container"),
        (lambda runtime, _service, _: runtime["spec"]["containers"][0].update(image="serving:2"), "isn't pinned"),
        (
            lambda _runtime, service, _: service["spec"]["predictor"].pop("automountServiceAccountToken"),
            "service account token",
        ),
        (lambda _, __, policies: policies.pop(1), "client reaches []"),
        (lambda _, __, policies: policies[1]["spec"]["ingress"][0].pop("from"), "lets anyone in"),
        (
            lambda _, __, policies: policies[2]["spec"]["ingress"][0]["ports"].pop(),
            "knative-serving reach",
        ),
        (
            lambda _, __, policies: policies[1]["spec"]["podSelector"].update(matchLabels={"app": "hqgnn"}),
            "client reaches []",
        ),
    ],
)
def test_what_is_broken_is_found(change, expected):
    runtime, service, policies = copy.deepcopy((RUNTIME, SERVICE, POLICIES))
    change(runtime, service, policies)
    assert expected in "\n".join(problems(runtime, service, policies))
