"""What no schema says of the Kubernetes manifests: that they fit each other, TF Serving's flags, and our rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import server_flags

Document = dict[str, Any]


def lint(
    documents: list[Document], config_maps: Mapping[str, Mapping[str, str]], models: Mapping[str, set[str]]
) -> list[str]:
    """Problems, none if all is well.

    Args:
      documents: of one variant, with what all share (Namespace, claim, network policies).
      config_maps: name -> file -> content.
      models: model config file -> names of its models.
    """
    problems = []
    for kind, name, problem in _all(documents, config_maps, models):
        problems.append(f"{kind} {name}: {problem}")
    return problems


def is_pinned(image: str) -> bool:
    """Whether a name has its registry, without which podman and CRI-O ask nobody, and a tag that stays what it is."""
    name, _, tag = image.partition("@")[0].rpartition(":")
    host, slash, _ = name.partition("/")
    has_host = bool(slash) and (host == "localhost" or "." in host or ":" in host)
    return has_host and bool(tag) and not tag.startswith(("latest", "nightly"))


def _all(documents, config_maps, models) -> Iterator[tuple[str, str, str]]:
    namespaces = {document["metadata"]["name"] for document in documents if document["kind"] == "Namespace"}
    deployments = [document for document in documents if document["kind"] == "Deployment"]
    claims = {document["metadata"]["name"] for document in documents if document["kind"] == "PersistentVolumeClaim"}
    pods = {document["metadata"]["name"]: document["spec"]["template"] for document in deployments}
    covered: dict[str, set[str]] = {name: set() for name in pods}
    for document in documents:
        kind, name = document["kind"], document["metadata"]["name"]
        if kind != "Namespace" and document["metadata"].get("namespace") not in namespaces:
            yield kind, name, "is in a namespace that isn't made here"
        if kind == "Deployment":
            for problem in _deployment(document, config_maps, models, claims):
                yield kind, name, problem
        if kind in ("Service", "PodDisruptionBudget"):
            spec = document["spec"]
            selector = spec["selector"] if kind == "Service" else spec["selector"]["matchLabels"]
            selected = [
                pod for pod, template in pods.items() if selector.items() <= template["metadata"]["labels"].items()
            ]
            if selected != [name]:
                yield kind, name, f"selects {selected}, expected the pods of {name}"
            for pod in selected:
                covered[pod].add(kind)
                if kind == "Service":
                    ports = {port["name"] for port in pods[pod]["spec"]["containers"][0]["ports"]}
                    for port in spec["ports"]:
                        if port["targetPort"] not in ports:
                            yield kind, name, f"targetPort {port['targetPort']} is no port of {pod}"
        if kind == "HorizontalPodAutoscaler":
            target = document["spec"]["scaleTargetRef"]["name"]
            if target not in pods:
                yield kind, name, f"scales {target}, which isn't there"
            else:
                covered[target].add(kind)
            if any(item["metadata"]["name"] == target and "replicas" in item["spec"] for item in deployments):
                yield kind, name, f"each apply of {target} sets the number of its pods back: it names replicas"
            if not 2 <= document["spec"]["minReplicas"] <= document["spec"]["maxReplicas"]:
                yield kind, name, "expected 2 <= minReplicas <= maxReplicas"
    for name, kinds in covered.items():
        for missing in {"Service", "PodDisruptionBudget", "HorizontalPodAutoscaler"} - kinds:
            yield "Deployment", name, f"has no {missing}"
    yield from _network([document for document in documents if document["kind"] == "NetworkPolicy"], pods)


def _deployment(document, config_maps, models, claims) -> Iterator[str]:
    template = document["spec"]["template"]
    if not document["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items():
        yield "selector doesn't match the labels of its pods"
    pod = template["spec"]
    if pod.get("automountServiceAccountToken", True):
        yield "mounts a service account token"
    security = pod.get("securityContext", {})
    if not security.get("runAsNonRoot") or not security.get("runAsUser"):
        yield "runs as root"
    if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "has no seccomp profile"
    for volume in pod["volumes"]:
        claim = volume.get("persistentVolumeClaim")
        if claim and (claim["claimName"] not in claims or not claim.get("readOnly")):
            yield f"volume {volume['name']}: expected a read-only claim that is made here"
        if "configMap" in volume and volume["configMap"]["name"] not in config_maps:
            yield f"volume {volume['name']}: no ConfigMap {volume['configMap']['name']}"
    for container in pod["containers"]:
        yield from _container(container, {volume["name"]: volume for volume in pod["volumes"]}, config_maps, models)


def _container(container, volumes, config_maps, models) -> Iterator[str]:
    if not is_pinned(container["image"]):
        yield f"image {container['image']} isn't pinned"
    security = container.get("securityContext", {})
    if security.get("allowPrivilegeEscalation", True):
        yield "allows privilege escalation"
    if not security.get("readOnlyRootFilesystem"):
        yield "can write to its root filesystem"
    if security.get("capabilities", {}).get("drop") != ["ALL"]:
        yield "keeps capabilities"
    resources = container.get("resources", {})
    for limit in ("requests", "limits"):
        for resource in ("cpu", "memory"):
            if resource not in resources.get(limit, {}):
                yield f"has no {limit} of {resource}"
    if resources.get("requests", {}).get("memory") != resources.get("limits", {}).get("memory"):
        yield "memory: limit and request differ, so the node may kill it first"

    flags, problems = server_flags.parse(container["args"])
    yield from problems
    ports = {port["name"]: str(port["containerPort"]) for port in container["ports"]}
    if ports != {"grpc": flags.get("port"), "rest": flags.get("rest_api_port")}:
        yield f"ports {ports} aren't those of the flags"
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    files = {}
    for path, mount in mounts.items():
        volume = volumes.get(mount["name"], {})
        if not volume:
            yield f"mounts {mount['name']}, which is no volume"
        if "emptyDir" not in volume and not mount.get("readOnly"):
            yield f"can write to {path}"
        for name in config_maps.get(volume.get("configMap", {}).get("name"), {}):
            files[f"{path}/{name}"] = name
    for flag in ("model_config_file", "monitoring_config_file"):
        if flags.get(flag) not in files:
            yield f"--{flag}={flags.get(flag)} isn't mounted"
    served = models.get(files.get(flags.get("model_config_file", ""), ""), set())
    if "/models" not in mounts:
        yield "/models isn't mounted"
    yield from _probes(container, flags, files, served)


def _probes(container, flags, files, served) -> Iterator[str]:
    for probe in ("startupProbe", "readinessProbe"):
        command = container.get(probe, {}).get("exec", {}).get("command", [])
        if len(command) != 4 or command[0] != "bash" or files.get(command[1]) != "available.sh":
            yield f"{probe} doesn't ask for AVAILABLE by available.sh"
        elif command[2] != flags.get("rest_api_port"):
            yield f"{probe} asks port {command[2]}, which isn't --rest_api_port"
        elif command[3] not in served:
            yield f"{probe} asks for {command[3]}, which isn't in the model config file"
    if str(container.get("livenessProbe", {}).get("grpc", {}).get("port")) != flags.get("port"):
        yield "livenessProbe doesn't ask gRPC health at --port"
    startup = container.get("startupProbe", {})
    if startup.get("periodSeconds", 10) * startup.get("failureThreshold", 3) < 300:
        yield "startupProbe gives up before a large model is loaded"


def _network(policies, pods) -> Iterator[tuple[str, str, str]]:
    if not any(not policy["spec"]["podSelector"] and "ingress" not in policy["spec"] for policy in policies):
        yield "NetworkPolicy", "deny-all", "nothing denies what isn't allowed"
    for name, template in pods.items():
        allowed = set()
        for policy in policies:
            labels = policy["spec"]["podSelector"].get("matchLabels", {})
            if labels.items() <= template["metadata"]["labels"].items():
                for rule in policy["spec"].get("ingress", []):
                    if not rule.get("from"):
                        yield "NetworkPolicy", policy["metadata"]["name"], "lets anyone in"
                    allowed |= {port["port"] for port in rule["ports"]}
        wanted = {port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}
        if allowed != wanted:
            yield "Deployment", name, f"network policies allow {sorted(allowed)}, it listens on {sorted(wanted)}"
