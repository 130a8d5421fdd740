"""Runs a folder of programs on the device that jaxlib finds: `python benchmarks/gpu/run.py PROGRAMS --out TABLE.csv`.

Needs jaxlib (or jax) and NumPy; torch is timed beside them where it is installed. A program that fails, doesn't fit or
gives a wrong answer becomes a row that says so. Exit code 2: nothing could be run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from runner.manifest import ProgramsError, read_manifest
from runner.session import Options, Session
from runner.table import Table

# Versions of TensorFlow whose programs were run; jaxlib was 0.6.2 and 0.10.2.
TRIED = ("2.16.2",)
_WORKER = Path(__file__).resolve().parent / "worker.py"


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", type=Path, help="the folder that `make gpu-programs` wrote")
    parser.add_argument(
        "--out", type=Path, required=True, help="the CSV to write; a row is there as soon as it is known"
    )
    parser.add_argument("--seconds", type=float, default=360.0, help="for everything (360)")
    parser.add_argument("--program-seconds", type=float, default=40.0, help="for one program (40)")
    parser.add_argument("--memory-gib", type=float, help="memory that one program may use (what is free)")
    parser.add_argument("--only", default="", help="run the programs whose name holds this text")
    parser.add_argument("--no-torch", action="store_true", help="don't time torch")
    arguments = parser.parse_args(given)
    memory = None if arguments.memory_gib is None else int(arguments.memory_gib * 2**30)
    options = Options(arguments.seconds, arguments.program_seconds, memory, arguments.only, not arguments.no_torch)
    try:
        manifest = read_manifest(arguments.programs)
        if not any(options.only in program.name for program in manifest.programs):
            raise ProgramsError(f"no program's name holds {options.only!r}: leave out --only to run all")
        table = Table(arguments.out)
    except (ProgramsError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"$ python {' '.join(sys.argv)}")
    print(f"{len(manifest.programs)} programs, compiled by TensorFlow {manifest.tensorflow}, commit {manifest.commit}")
    if manifest.tensorflow not in TRIED:
        print(
            f"warning: these programs are TensorFlow {manifest.tensorflow}'s, tried were those of {', '.join(TRIED)}; "
            "what this jaxlib can't compile becomes a row that says so"
        )

    def command(kind: str) -> list[str]:
        return [sys.executable, str(_WORKER), kind, str(arguments.programs)]

    session = Session(manifest, table, options, command, lambda line: print(line, flush=True))
    try:
        session.run()
    except KeyboardInterrupt:
        print(f"interrupted: {arguments.out} has the rows so far", file=sys.stderr)
        return 130
    finally:
        table.close()
    if session.unavailable:
        print(session.unavailable, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
