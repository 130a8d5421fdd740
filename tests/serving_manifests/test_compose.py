"""docker-compose.yaml: that its services fit the flags, run with few rights, and start where a user tries them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import server_flags
import yaml
from manifest_lint import is_pinned

SERVING = Path(__file__).resolve().parents[2] / "serving"
MODELS = {"models.config": ["hqgnn"], "models_scann.config": ["hqgnn_scann"]}


def compose() -> dict:
    return yaml.safe_load((SERVING / "docker-compose.yaml").read_text())


def with_defaults(text: object) -> str:
    """What compose puts in where the environment has nothing."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(text))


def problems(found: dict) -> list[str]:
    wrong, taken = [], []
    for name, service in found["services"].items():
        flags, mistakes = server_flags.parse(service["command"])
        wrong += [f"{name}: {problem}" for problem in mistakes]
        if service["user"] != "1000:1000" or not service["read_only"] or service["cap_drop"] != ["ALL"]:
            wrong.append(f"{name}: has rights that it doesn't need")
        if not service.get("mem_limit"):
            wrong.append(f"{name}: has no limit of memory")
        # The daemon refuses more cores than the machine has, and the smallest has one; 0 is no limit.
        if float(with_defaults(service.get("cpus", 0))) > 1:
            wrong.append(f"{name}: cpus {service['cpus']} is refused on a small machine")
        if not is_pinned(service["image"]):
            wrong.append(f"{name}: podman doesn't resolve {service['image']}")
        for port in service["ports"]:
            address, outside, inside = port.split(":")
            taken.append(outside)
            if address != "127.0.0.1" or inside not in (flags["port"], flags["rest_api_port"]):
                wrong.append(f"{name}: port {port}")
        config = flags["model_config_file"].removeprefix("/etc/tf_serving/")
        _, *command = service["healthcheck"]["test"]
        if command != ["bash", "/etc/tf_serving/available.sh", flags["rest_api_port"], *MODELS.get(config, ["?"])]:
            wrong.append(f"{name}: healthcheck {command}")
        wrong += [f"{name}: {problem}" for volume in service["volumes"] for problem in volume_problems(volume)]
        if "build" in service and not (SERVING / service["build"]["context"] / service["build"]["dockerfile"]).exists():
            wrong.append(f"{name}: no {service['build']['dockerfile']}")
    if len(set(taken)) != len(taken):
        wrong.append("two services want one port")
    return wrong


def volume_problems(volume: object) -> list[str]:
    # The short form, and the long one without the last key, make what isn't there: an empty folder, owned by root.
    if not isinstance(volume, dict) or volume.get("type") != "bind":
        return [f"volume {volume}: expected the long form of a bind"]
    found = []
    if volume.get("bind", {}).get("create_host_path") is not False:
        found.append(f"volume {volume['target']}: would be created empty")
    if not volume.get("read_only"):
        found.append(f"volume {volume['target']}: can be written to")
    return found


def test_compose():
    assert set(compose()["services"]) == {"hqgnn", "hqgnn-gpu", "hqgnn-scann"}
    assert problems(compose()) == []


def test_what_is_mounted_must_be_named():
    sources = [volume["source"] for volume in compose()["services"]["hqgnn"]["volumes"]]
    assert any(source.startswith("${EXPORT:?") for source in sources)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"ports": ["0.0.0.0:8500:8500"]}, "port 0.0.0.0"),
        ({"ports": ["127.0.0.1:8500:8600"]}, "port 127.0.0.1:8500:8600"),
        ({"user": "root"}, "rights"),
        ({"mem_limit": None}, "no limit of memory"),
        ({"cpus": 4}, "refused on a small machine"),
        ({"cpus": "${CPUS:-4}"}, "refused on a small machine"),
        ({"image": "tensorflow/serving:2.16.1"}, "podman doesn't resolve"),
        ({"volumes": ["${EXPORT:?}:/models:ro"]}, "expected the long form"),
        ({"volumes": [{"type": "volume", "source": "m", "target": "/models", "read_only": True}]}, "expected the long"),
        ({"volumes": [{"type": "bind", "source": "m", "target": "/models", "read_only": True}]}, "be created empty"),
        (
            {"volumes": [{"type": "bind", "source": "m", "target": "/models", "bind": {"create_host_path": False}}]},
            "can be written to",
        ),
        ({"healthcheck": {"test": ["CMD", "true"]}}, "healthcheck"),
    ],
)
def test_what_is_broken_is_found(change, expected):
    found = compose()
    found["services"]["hqgnn"] = {**found["services"]["hqgnn"], **change}
    assert expected in "\n".join(problems(found))
