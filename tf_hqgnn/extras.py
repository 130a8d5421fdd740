"""The optional packages, by the extra of pyproject.toml that brings them; what lacks one says so before any work."""

from __future__ import annotations

import importlib.util
import platform
import sys

from tf_hqgnn.types import InputError

# Modules of each extra; the first one that is missing is named.
_MODULES = {
    "serving": ("grpc_health", "grpc_reflection", "prometheus_client", "h11"),
    "scann": ("scann",),
    "beam": ("apache_beam",),
    "tfx": ("tfx", "kfp"),
    "report": ("matplotlib",),
}
# What has wheels for one platform only, and TFX for some Pythons.
_LINUX_X86 = {"scann": "ScaNN", "tfx": "TFX"}
_TFX_PYTHONS = ((3, 10), (3, 11))


def missing(extra: str) -> str | None:
    """The first module of an extra that can't be found here; None if all are there."""
    return next((name for name in _MODULES[extra] if not _is_there(name)), None)


def require(extra: str, what: str) -> None:
    """Refuses work for which a package is missing.

    Args:
      extra: of pyproject.toml.
      what: the command or the part that needs it, as a message names it.

    Raises:
      InputError: It names the module, and how to install it, or that it can't be had on this platform.
    """
    name = missing(extra)
    if name is not None:
        raise InputError(f"{what} needs the package {name}: {how_to_install(extra)}")


def how_to_install(extra: str) -> str:
    """What to do about a missing extra on this platform, as the end of a sentence."""
    if extra in _LINUX_X86 and (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return (
            f"{_LINUX_X86[extra]} has releases for Linux on x86-64 only, not for {platform.system()} on "
            f"{platform.machine()}"
        )
    if extra == "tfx" and sys.version_info[:2] not in _TFX_PYTHONS:
        return f"TFX has releases for Python 3.10 and 3.11 only, not for {platform.python_version()}"
    return f"pip install 'tf_hqgnn[{extra}]'"


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # A module that was made by hand, without a specification.
        return name in sys.modules
