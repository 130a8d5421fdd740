"""Writes a bill of materials of the lock and looks its advisories up: `make audit`, in an environment of its own.

cyclonedx-py writes the bill (CycloneDX, JSON) with the version and the hashes of every package. pip-audit asks OSV,
which holds the advisories of PyPI and of GitHub, for each of the two Pythons of the lock. Each advisory must be judged:
its identifier stands in SECURITY.md with what it means here.

Exit codes: 0 no advisory is left to judge, or the database can't be reached, which is said; 1 an advisory isn't judged,
or, with --strict, nobody could be asked; 2 wrong usage.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.10", "3.11")
ADVISORY = re.compile(r"\b(?:CVE-\d{4}-\d+|GHSA(?:-[0-9a-z]{4}){3}|PYSEC-\d{4}-\d+)\b")


class NotAskedError(Exception):
    """The database of advisories didn't answer for every package."""


@dataclass(frozen=True)
class Advisory:
    """What is known of a package's release."""

    package: str
    version: str
    names: frozenset[str]
    fixed: tuple[str, ...]

    def __str__(self) -> str:
        fixed = f"fixed in {', '.join(self.fixed)}" if self.fixed else "no fixed release"
        return f"{self.package} {self.version}: {', '.join(sorted(self.names))} ({fixed})"


def write_bill(lock: Path, out: Path) -> int:
    """Writes the bill of materials of a lock; returns how many packages it has."""
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", "--output-reproducible", "--mc-type", "library"]
    command += ["--pyproject", str(ROOT / "pyproject.toml"), "--output-file", str(out), str(lock)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return len(json.loads(out.read_text(encoding="utf-8"))["components"])


def requirements(lock: str, python: str) -> list[str]:
    """The lines of a lock that hold on a Python on Linux, one for each package, without their conditions."""
    text = re.sub(r"\s*\\\n\s*", " ", re.sub(r"^\s*#.*\n", "", lock, flags=re.MULTILINE))
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_machine": "x86_64",
        "platform_system": "Linux",
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    found = []
    for line in text.splitlines():
        requirement, *hashes = line.split(" --hash=")
        if not requirement.strip():
            continue
        parsed = Requirement(requirement)
        if parsed.marker is None or parsed.marker.evaluate(environment):
            found.append(" --hash=".join([f"{parsed.name}{parsed.specifier}", *hashes]))
    return found


def find_advisories(lines: Sequence[str], url: str | None) -> set[Advisory]:
    """Asks for every package of a list.

    Args:
      lines: requirements with hashes.
      url: of OSV's query; its own if None.

    Raises:
      NotAskedError: The database can't be reached, or didn't know of a package.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, answer = Path(folder) / "requirements.txt", Path(folder) / "answer.json"
        given.write_text("\n".join(lines) + "\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip_audit", "--vulnerability-service", "osv", "--progress-spinner", "off"]
        command += ["--disable-pip", "--require-hashes", "--requirement", str(given)]
        command += ["--format", "json", "--output", str(answer), *(["--osv-url", url] if url else [])]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if not answer.exists():
            raise NotAskedError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no answer")
        packages = json.loads(answer.read_text(encoding="utf-8"))["dependencies"]
    # pip-audit calls a list without a fault what it couldn't look up.
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    if skipped or len(packages) < len(lines):
        raise NotAskedError(f"{len(skipped) or len(lines) - len(packages)} of {len(lines)} packages weren't looked up")
    return {
        Advisory(
            package["name"],
            package["version"],
            frozenset([found["id"], *found["aliases"]]),
            tuple(found["fix_versions"]),
        )
        for package in packages
        for found in package["vulns"]
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs both; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lock", type=Path, default=ROOT / "requirements.lock", help="locked requirements with hashes")
    parser.add_argument("--out", type=Path, default=ROOT / "sbom.cdx.json", help="gets the bill of materials")
    parser.add_argument(
        "--judged", type=Path, default=ROOT / "SECURITY.md", help="names the advisories that are judged"
    )
    parser.add_argument("--osv-url", metavar="URL", help="where to ask, in place of OSV itself: a mirror of your own")
    parser.add_argument("--strict", action="store_true", help="exit with 1 where the database can't be reached")
    options = parser.parse_args(arguments)
    print(f"{options.out}: {write_bill(options.lock, options.out)} packages")
    lock = options.lock.read_text(encoding="utf-8")
    try:
        found = set().union(*(find_advisories(requirements(lock, python), options.osv_url) for python in PYTHONS))
    except NotAskedError as error:
        print(f"NOT AUDITED: the database of advisories can't be reached from here: {error}", file=sys.stderr)
        return 1 if options.strict else 0
    judged = set(ADVISORY.findall(options.judged.read_text(encoding="utf-8")))
    for advisory in sorted(found, key=str):
        print(f"{'judged    ' if advisory.names & judged else 'NOT JUDGED'} {advisory}")
    missing = sum(not advisory.names & judged for advisory in found)
    print(f"{len(found)} advisories; {missing} of them are not judged in {options.judged.name}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
