"""What InfraCheck runs in a process of its own: SavedModels are loaded and their warm-up records replayed."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from tf_hqgnn.export.loading import needs_scann
from tf_hqgnn.export.warmup import replay_warmup
from tf_hqgnn.startup import collect_seldom


def main(model_dirs: Sequence[str]) -> int:
    """Replays every model; prints a JSON object per line of standard output: `model`, and `records` or `error`.

    Args:
      model_dirs: folders of SavedModels. The first that names ScaNN's operations brings ScaNN; one before it, like the
        exact model, must load in a server that has none.
    """
    collect_seldom()
    status = 0
    modules: dict[str, Any] = sys.modules
    # None makes `import scann` fail, also where a dependency would bring it.
    modules["scann"] = None
    for model_dir in model_dirs:
        report: dict[str, Any] = {"model": model_dir}
        try:
            if needs_scann(model_dir):
                modules.pop("scann", None)
            report["records"] = replay_warmup(model_dir)
        except Exception as error:  # Whatever it is, a server would refuse the model for it.
            report["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
            status = 1
        print(json.dumps(report), flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
