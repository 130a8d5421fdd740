"""What must be settled before anything else of the package is imported: which Keras, and that files can't run code."""

from __future__ import annotations

import gc
import importlib
import os
import re
import sys
import tempfile
from importlib import metadata

# pyarrow's first release without CVE-2023-47248.
_SAFE_PYARROW = (14, 0, 1)


def choose_keras_2() -> None:
    """Makes `tf.keras` Keras 2, which layers and models here are written for.

    TensorFlow chooses when `tf.keras` is first used, not when it is imported: by then the variable must be set.

    Raises:
      ImportError: `tf.keras` is Keras 3 already.
    """
    if os.environ.get("TF_USE_LEGACY_KERAS") in ("1", "True", "true"):
        return
    if _keras_3_is_in_use():
        raise ImportError(
            "tf.keras is Keras 3 in this process already, and tf_hqgnn needs Keras 2: import tf_hqgnn before anything "
            "that uses tf.keras, or set TF_USE_LEGACY_KERAS=1"
        )
    os.environ["TF_USE_LEGACY_KERAS"] = "1"


def _keras_3_is_in_use() -> bool:
    # A lazy loader until somebody uses it, then the package itself, under one of several names.
    keras = vars(sys.modules["tensorflow"]).get("keras") if "tensorflow" in sys.modules else None
    if keras is None or "LazyLoader" in type(keras).__name__:
        return False
    return not keras.Model.__module__.startswith("tf_keras.")


def collect_seldom() -> None:
    """Lets Python search for garbage less often; for programs, which own their process.

    A trace of TensorFlow's makes a million objects, nearly all of which stay: by Python's own thresholds up to a third
    of an export's time goes into searching them.
    """
    gc.set_threshold(50_000, 10, 10)


def settle_home() -> None:
    """Gives a program a home and a user name where it has none, and keeps libraries from writing into a home.

    In a container under an arbitrary user id there is neither; libraries look for both while they are imported (nltk,
    which TFX brings, and getpass) and fail without. Keras writes `~/.keras/keras.json` when it is imported.
    """
    home = os.path.expanduser("~")
    if home == "~" or not os.access(home, os.R_OK):
        home = os.environ["HOME"] = tempfile.gettempdir()
    if not os.path.exists(os.path.join(home, ".keras")):
        # No folder can be made there, and Keras goes on with its defaults.
        os.environ.setdefault("KERAS_HOME", os.path.join(os.devnull, "keras"))
    if not any(os.environ.get(name) for name in ("LOGNAME", "USER", "LNAME", "USERNAME")):
        try:
            importlib.import_module("pwd").getpwuid(os.getuid())
        except (ImportError, KeyError, AttributeError):
            os.environ["USER"] = "hqgnn"


def forbid_pickled_types() -> None:
    """Keeps pyarrow from running code that it finds in a file (CVE-2023-47248).

    Before 14.0.1, pyarrow unpickles the extension types that a Parquet or Feather file names, used or not, and with
    them whatever its author has put there. TFX's pins keep pyarrow at 10. The package `pyarrow-hotfix` takes that away,
    once it is imported.

    Raises:
      ImportError: The installed pyarrow needs it, and it isn't installed.
    """
    try:
        version = metadata.version("pyarrow")
    except metadata.PackageNotFoundError:
        # What needs it says so when it is imported.
        return
    if is_safe(version):
        return
    try:
        importlib.import_module("pyarrow_hotfix")
    except ImportError as error:
        raise ImportError(
            f"pyarrow {version} runs code that it finds in Parquet files (CVE-2023-47248): install pyarrow-hotfix, or "
            "pyarrow 14.0.1 or newer"
        ) from error


def is_safe(version: str) -> bool:
    """Whether a release of pyarrow has the mend.

    >>> is_safe("10.0.1"), is_safe("14.0.1"), is_safe("21.0.0.dev3")
    (False, True, True)
    """
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3]) >= _SAFE_PYARROW
