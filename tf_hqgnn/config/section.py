"""What every section of the settings is: frozen and strict, with names that a registry knows."""

from __future__ import annotations

from typing import Any

from pydantic import AfterValidator, BaseModel, ConfigDict

from tf_hqgnn.types import Registry


class Section(BaseModel):
    """Settings that can't be changed, and know no others."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def registered(registry: Registry[Any], *others: str) -> AfterValidator:
    """Refuses names that are neither in the registry nor among `others`."""

    def check(name: str) -> str:
        known = (*others, *registry.names())
        if name not in known:
            raise ValueError(f"expected one of {', '.join(known)}")
        return name

    return AfterValidator(check)
