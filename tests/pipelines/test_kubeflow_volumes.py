"""The volumes that the steps mount: claims of their own namespace, the models' on the share of the servers."""

from __future__ import annotations

import copy
import inspect
from pathlib import Path

import pytest
import yaml

from pipelines.kubeflow_steps import DEFAULT_STEPS, read_steps
from tf_hqgnn.cli.pipeline import compile_

ROOT = Path(__file__).resolve().parents[2]
VOLUMES = ROOT / "pipelines" / "kubernetes" / "volumes.yaml"
STEPS = ["RunCheck", "InteractionGen", "Trainer", "IndexGen", "RankingEvaluator"]


def documents() -> list[dict]:
    return list(yaml.safe_load_all(VOLUMES.read_text()))


def problems(found: list[dict]) -> list[str]:
    """Why a step that mounts the default claims would stay Pending, or lose what is on the share."""
    wrong = []
    claims = {item["metadata"]["name"]: item for item in found if item["kind"] == "PersistentVolumeClaim"}
    volumes = {item["metadata"]["name"]: item for item in found if item["kind"] == "PersistentVolume"}
    for step, settings in read_steps(DEFAULT_STEPS, STEPS).items():
        wrong += [
            f"{step} mounts {m.constant}, no claim" for m in settings.kubernetes.pvcMount if m.constant not in claims
        ]
    if len({claim["metadata"]["namespace"] for claim in claims.values()}) != 1:
        wrong.append("a step can't mount claims of two namespaces")
    for name, claim in claims.items():
        spec, namespace = claim["spec"], claim["metadata"]["namespace"]
        if namespace == "hqgnn":
            wrong.append(f"{name} is in the servers' namespace, whose policies refuse the steps")
        volume = volumes.get(spec.get("volumeName"))
        if volume is None:
            wrong.append(f"{name} names no volume")
            continue
        given = volume["spec"]
        if given.get("claimRef") != {"namespace": namespace, "name": name}:
            wrong.append(f"the volume of {name} is kept for another claim")
        # An absent class is the cluster's default one, which makes another volume.
        if (spec.get("storageClassName"), given.get("storageClassName")) != ("", ""):
            wrong.append(f"{name} isn't static")
        if spec["accessModes"] != ["ReadWriteMany"] or given["accessModes"] != ["ReadWriteMany"]:
            wrong.append(f"{name} can't be mounted by many nodes")
        if given.get("persistentVolumeReclaimPolicy") != "Retain":
            wrong.append(f"{name} would take the share along when it is deleted")
        if spec["resources"]["requests"]["storage"] != given["capacity"]["storage"]:
            wrong.append(f"{name} asks for another size")
    return wrong


def test_the_volumes_are_those_that_the_steps_mount():
    assert problems(documents()) == []
    (servers,) = yaml.safe_load_all((ROOT / "serving" / "kubernetes" / "models.yaml").read_text())
    sizes = {item["metadata"]["name"]: item["spec"].get("resources") for item in documents()}
    assert sizes["models"] == servers["spec"]["resources"]


@pytest.mark.parametrize(
    ("number", "change", "message"),
    [
        (1, {"volumeName": "other"}, "models names no volume"),
        (1, {"storageClassName": "standard"}, "models isn't static"),
        (0, {"claimRef": {"namespace": "kubeflow", "name": "other"}}, "the volume of models is kept for another claim"),
        (0, {"persistentVolumeReclaimPolicy": "Delete"}, "models would take the share along"),
        (5, {"accessModes": ["ReadWriteOnce"]}, "data can't be mounted by many nodes"),
    ],
)
def test_broken_volumes_are_found(number, change, message):
    found = copy.deepcopy(documents())
    found[number]["spec"].update(change)
    assert any(problem.startswith(message) for problem in problems(found))


def claim_of(path: str) -> str:
    """The claim that the steps mount at a path or above it."""
    mounts = read_steps(DEFAULT_STEPS, STEPS)["Trainer"].kubernetes.pvcMount
    return next(mount.constant for mount in mounts if Path(path).is_relative_to(mount.mountPath))


def test_the_model_store_is_on_a_volume_that_no_server_mounts():
    """It holds the ids of the log."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(compile_).parameters.items()}
    served, store = claim_of(defaults["serving_dir"]), claim_of(defaults["model_store"])
    assert (served, store) == ("models", "store")
    volumes = {item["spec"]["claimRef"]["name"]: item["spec"] for item in documents() if "claimRef" in item["spec"]}
    assert volumes["store"]["nfs"] != volumes["models"]["nfs"]
    mounted = {
        volume["persistentVolumeClaim"]["claimName"]
        for path in (ROOT / "serving" / "kubernetes").glob("*.yaml")
        for item in yaml.safe_load_all(path.read_text())
        if item["kind"] == "Deployment"
        for volume in item["spec"]["template"]["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert mounted == {"models"}


def test_the_claim_of_the_servers_is_refused():
    found = documents()
    for item in found:
        if "namespace" in item["metadata"]:
            item["metadata"]["namespace"] = "hqgnn"
    assert any("whose policies refuse the steps" in problem for problem in problems(found))
