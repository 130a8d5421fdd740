"""Measures what it is told by standard input, a JSON object a line, and answers on standard output. Started by run.py.

The first line that it writes says what device it has, or why it has none.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runner.device import DeviceError, JaxlibDevice
from runner.manifest import ProgramsError, read_manifest
from runner.torch_peer import TorchPeer
from runner.work import Limits, Work


def main() -> None:
    # Libraries print to standard output, too: answers go to a copy of it.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(values: dict[str, Any]) -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    kind, folder = sys.argv[1], Path(sys.argv[2])
    try:
        if kind == "torch":
            peer: Any = TorchPeer()
            info = peer.info
        else:
            device = JaxlibDevice()
            peer, info = Work(device, read_manifest(folder)), device.info
    except (DeviceError, ProgramsError) as error:
        answer({"error": str(error)})
        return
    answer({"device": asdict(info)})
    for line in sys.stdin:
        job = json.loads(line)
        row = peer.run(job["job"], Limits(**job["limits"]))
        answer({"row": row, "usable": row["status"] == "ok" or peer.is_usable()})


if __name__ == "__main__":
    main()
