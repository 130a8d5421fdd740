"""What every section of the settings is: frozen and strict, with names that a registry knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from tf_hqgnn.types import Registry

# What a metric of ranking is called: its kind, and how many items of a list it looks at.
METRIC_PATTERN = r"^(recall|ndcg|mrr|hit|precision|coverage)@[1-9][0-9]*$"


class Section(BaseModel):
    """Settings that can't be changed, and know no others."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_booleans_as_numbers(cls, values: Any) -> Any:
        """`yes` is true in YAML, which pydantic takes for 1."""
        if isinstance(values, Mapping):
            for name, field in cls.model_fields.items():
                value = values.get(name)
                if isinstance(value, Mapping) and _is_mapping(field.annotation):
                    value = list(value.values())
                found = _booleans(value)
                if found and not allows(field.annotation, bool):
                    came = str(found[0]).lower()
                    raise ValueError(f"{name} came as {came} (in YAML also yes, no, on, off); expected another value")
        return values

    @classmethod
    def setting_types(cls) -> dict[str, Any]:
        """The type of each setting."""
        return {name: field.annotation for name, field in cls.model_fields.items()}


def _booleans(value: Any) -> list[bool]:
    """The booleans that a value is, or has in a list; lists in lists are refused by their type."""
    if isinstance(value, bool):
        return [value]
    return [part for part in value if isinstance(part, bool)] if isinstance(value, list | tuple) else []


def _is_mapping(annotation: Any) -> bool:
    """Whether a type is a dict, or a union with one."""
    return get_origin(annotation) is dict or any(_is_mapping(part) for part in get_args(annotation))


def allows(annotation: Any, kind: type) -> bool:
    """Whether a type is `kind`, or a union with it."""
    return annotation in (kind, Any) or any(allows(part, kind) for part in get_args(annotation))


def registered(registry: Registry[Any], *others: str) -> AfterValidator:
    """Refuses names that are neither in the registry nor among `others`."""

    def check(name: str) -> str:
        known = (*others, *registry.names())
        if name not in known:
            raise ValueError(f"expected one of {', '.join(known)}")
        return name

    return AfterValidator(check)
