"""Puts TensorFlow for Java, gRPC's Java and protoc into .java, by Maven: `python tests/clients/java_parts.py`.

What can't be had is said, and isn't an error: the tests that need it are skipped by name. A file that isn't the one
that was pinned is an error.
"""

import hashlib
import platform
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parents[1] / ".java"
# The folder in .java -> its project, and the list of its files' hashes. TensorFlow 2.16.2 and 2.18.0.
PARTS = {
    "tensorflow-1.0.0": ("tensorflow", "jars-1.0.0.sha256"),
    "tensorflow-1.1.0": ("tensorflow", "jars-1.1.0.sha256"),
    "grpc": ("grpc", "jars.sha256"),
}
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"


def why_missing(part: str) -> str | None:
    """Says why a part isn't in .java, as its tests are skipped; None if it is there."""
    if (FOLDER / part / _stamp(part)).exists():
        return None
    missing = _missing_tools()
    return f"{part} isn't in .java: {missing or 'make test-java puts it there, by Maven'}"


def install(part: str) -> bool:
    """Fetches a part, unless it is there; returns whether it is.

    Raises:
      SystemExit: A file is missing, is one too many, or isn't the one that was pinned.
    """
    target, (project, _) = FOLDER / part, PARTS[part]
    if why_missing(part) is None:
        return True
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    command = ["mvn", "--quiet", "--batch-mode", "--strict-checksums", "--file", str(HERE / "java" / project), _COPY]
    version = part.rpartition("-")[2]
    done = subprocess.run([*command, f"-Dtensorflow={version}", f"-DoutputDirectory={target}"], check=False)
    if done.returncode:
        return False
    _check_hashes(part)
    (target / _stamp(part)).touch()
    return True


def _missing_tools() -> str | None:
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return "its native files are pinned for Linux on x86-64"
    if not all(map(shutil.which, ("java", "javac", "mvn"))):
        return "it needs Java 17 and Maven (on Debian: apt-get install openjdk-17-jdk-headless maven)"
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True).stderr
    major = said.partition('version "')[2].partition('"')[0].partition(".")[0]
    return (
        None if major.isdecimal() and int(major) >= 17 else f"it needs Java 17 or newer, found {said.splitlines()[0]}"
    )


def _pins(part: str) -> Path:
    project, pins = PARTS[part]
    return HERE / "java" / project / pins


def _stamp(part: str) -> str:
    project = HERE / "java" / PARTS[part][0] / "pom.xml"
    return "installed-" + hashlib.sha256(project.read_bytes() + _pins(part).read_bytes()).hexdigest()[:16]


def _check_hashes(part: str) -> None:
    """Compares the files of a part with a list that `sha256sum` wrote."""
    expected = dict(reversed(line.split()) for line in _pins(part).read_text(encoding="utf-8").splitlines())
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (FOLDER / part).iterdir()}
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        sys.exit(f"{part}: {', '.join(wrong)}: not the files that {_pins(part).name} pins")


def main() -> None:
    """Fetches all parts."""
    missing = _missing_tools()
    if missing:
        print(f"TensorFlow for Java isn't fetched: {missing}; its tests are skipped")
        return
    for part in PARTS:
        if not install(part):
            print(f"{part} can't be fetched: its tests are skipped")


if __name__ == "__main__":
    main()
