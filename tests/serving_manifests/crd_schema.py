"""Schemas of other projects' resources, cut down to what a JSON schema can check offline.

`python crd_schema.py CRD.yaml URL@COMMIT [FIELD ..] > crds/KIND.json` writes one from a CustomResourceDefinition:
without descriptions, without the parts of pods, which Kubernetes' own schema checks (test_engine_manifests.py), and
without the fields that are named.
"""

import json
import sys
from pathlib import Path

import yaml

# Parts that are Kubernetes' own types, and huge; a test puts them into a Pod.
OF_PODS = (
    *("podTemplate", "template", "sidecars", "initContainers", "volumes", "affinity", "securityContext"),
    *("podSecurityContext", "lifecycle", "env", "envFrom", "tolerations", "dnsConfig", "hostAliases"),
)


def trimmed(schema, left_out=()):
    """A schema of OpenAPI as JSON schema, in which a field that isn't named is a mistake.

    Kubernetes drops such a field in silence, or refuses it if it is asked to be strict.

    Args:
      schema: of OpenAPI.
      left_out: fields that no manifest here has, and that are then a mistake, too.
    """
    kept = {key: schema[key] for key in ("type", "enum", "required", "minimum", "pattern", "items") if key in schema}
    if schema.get("x-kubernetes-int-or-string"):
        kept["type"] = ["integer", "string"]
    if schema.get("nullable") and isinstance(kept.get("type"), str):
        kept["type"] = [kept["type"], "null"]
    if "items" in kept:
        kept["items"] = trimmed(kept["items"], left_out)
    if isinstance(schema.get("additionalProperties"), dict):
        kept["additionalProperties"] = trimmed(schema["additionalProperties"], left_out)
    if "properties" in schema:
        kept["properties"] = {
            name: {} if name in OF_PODS else trimmed(field, left_out)
            for name, field in schema["properties"].items()
            if name not in left_out
        }
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            kept["additionalProperties"] = False
    return kept


def main(path, origin, *left_out):
    """Prints the schema of the newest version in a CustomResourceDefinition."""
    definition = yaml.safe_load(Path(path).read_text())["spec"]
    version = definition["versions"][-1]
    schema = trimmed(version["schema"]["openAPIV3Schema"], left_out)
    # Kubernetes itself checks these.
    schema["properties"] |= {name: {"type": "object"} for name in ("metadata", "status")}
    schema["properties"] |= {name: {"type": "string"} for name in ("apiVersion", "kind")}
    kind = {"group": definition["group"], "version": version["name"], "kind": definition["names"]["kind"]}
    print(json.dumps({"origin": origin, **kind, "schema": schema}, separators=(",", ":"), sort_keys=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
