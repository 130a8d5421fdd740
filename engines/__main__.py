"""Starts and stops a cluster: `python -m engines start|stop|flags flink|spark|prism`."""

from __future__ import annotations

import argparse
import shlex
import sys

from engines.flink import Flink
from engines.install import FOLDER, is_installed
from engines.prism import Prism
from engines.spark import Spark

_ENGINES: dict[str, type[Flink] | type[Spark] | type[Prism]] = {engine.name: engine for engine in (Flink, Spark, Prism)}


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m engines", description=__doc__)
    parser.add_argument("command", choices=("start", "stop", "flags"))
    parser.add_argument("engine", choices=list(_ENGINES))
    options = parser.parse_args()
    if not is_installed(options.engine):
        sys.exit(f"{options.engine} isn't installed here: make engines")
    engine = _ENGINES[options.engine](FOLDER / "run" / options.engine)
    if options.command == "stop":
        engine.stop()
        return
    if options.command == "start":
        engine.start()
    print(shlex.join(engine.flags))


if __name__ == "__main__":
    main()
