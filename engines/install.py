"""Puts Flink, Spark, their Beam runners and prism into .engines: `python -m engines.install`."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
MAVEN = HERE / "maven"
GO = HERE / "go"
FOLDER = HERE.parent / ".engines"

# Both engines run on this Java, with the flags of `java_options.txt`.
JAVA = 17
_PRISM = "github.com/apache/beam/sdks/v2/go/cmd/prism"
_COPY_JARS = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
# Where each engine's own jars are in its source distribution, without those that no job of Beam's needs.
_OWN_JARS = {
    "flink": r"apache-flink-libraries-[^/]*/deps/lib/(?!.*(table|cep|csv|json|connector)).*\.jar",
    "spark": r"pyspark-[^/]*/deps/jars/.*\.jar",
}
# Of Beam's dependencies, what the engine has in its own version: the engine's comes first, and two would mix.
_THEIRS = {
    "flink": r"flink-.*",
    "spark": r"(slf4j-api|jackson-(core|databind|annotations)|avro|commons-(io|lang3|compress|codec))-\d.*",
}
# What belongs to one jar alone: its manifest, signatures and index.
_OF_ONE_JAR = r"META-INF/([^/]*\.(MF|SF|RSA|DSA|EC)|INDEX\.LIST)|(.*/)?module-info\.class|.*/"


def main() -> None:
    """Installs both engines, and prism where there is Go; what is there already is left as it is."""
    build_prism()
    missing = missing_tools()
    if missing:
        sys.exit(f"make engines: {missing}")
    with tempfile.TemporaryDirectory() as folder:
        for engine in ("flink", "spark"):
            if (FOLDER / engine / _stamp(engine)).exists():
                continue
            print(f"installing {engine} into {FOLDER.name}/{engine}")
            _install(engine, Path(folder))


def missing_tools() -> str | None:
    """Returns what has to be installed first, in words; None if all is there."""
    if shutil.which("java") is None or shutil.which("mvn") is None:
        return (
            f"Flink and Spark need Java {JAVA} and Maven; on Debian: apt-get install openjdk-{JAVA}-jdk-headless maven"
        )
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True).stderr
    found = re.search(r'version "(\d+)', said)
    if found is None or int(found[1]) != JAVA:
        return f"Flink and Spark need Java {JAVA} as `java` on PATH; found {said.splitlines()[0]}"
    return None


def is_installed(engine: str) -> bool:
    """Whether this engine is in .engines, in the version that is pinned now."""
    return (FOLDER / engine / _stamp(engine)).exists()


def class_path(*folders: str) -> str:
    """All jars of some folders in .engines, for `java -cp`."""
    return ":".join(str(FOLDER / folder / "*") for folder in folders)


def _stamp(engine: str) -> str:
    pins: tuple[Path, ...] = (
        Path(__file__),
        HERE / "requirements.lock",
        MAVEN / engine / "pom.xml",
        MAVEN / engine / "jars.sha256",
    )
    if engine == "prism":
        pins = (GO / "go.mod", GO / "go.sum")
    return "installed-" + hashlib.sha256(b"".join(path.read_bytes() for path in pins)).hexdigest()[:16]


def build_prism() -> None:
    """Builds Beam's prism; go.sum has the hashes of what goes into it."""
    if is_installed("prism"):
        return
    if shutil.which("go") is None:
        print("prism isn't built, for want of Go 1.26: its tests are skipped")
        return
    print(f"building prism into {FOLDER.name}/prism (two minutes)")
    target = FOLDER / "prism"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    settings = {"GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local"}
    command = ["go", "build", "-o", str(target / "prism"), _PRISM]
    if subprocess.run(command, cwd=GO, env={**os.environ, **settings}, check=False).returncode:
        print("prism isn't built, for want of Go 1.26 or of its modules: its tests are skipped")
        return
    (target / _stamp("prism")).touch()


def _install(engine: str, scratch: Path) -> None:
    target = FOLDER / engine
    shutil.rmtree(target, ignore_errors=True)
    own, beam = target / "jars", target / "beam"
    own.mkdir(parents=True)
    if not any(scratch.glob("*.tar.gz")):
        # pip checks the hashes, and its own settings say from where.
        quiet = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        which = ["--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--require-hashes"]
        pins = ["-r", str(HERE / "requirements.lock"), "-d", str(scratch)]
        subprocess.run([*quiet, "download", *which, *pins], check=True)
    for archive in scratch.glob("*.tar.gz"):
        with tarfile.open(archive) as file:
            for member in file:
                source = file.extractfile(member) if re.fullmatch(_OWN_JARS[engine], member.name) else None
                if source is not None:
                    with (own / Path(member.name).name).open("wb") as jar:
                        shutil.copyfileobj(source, jar)
    maven = ["mvn", "--quiet", "--batch-mode", "--file", str(MAVEN / engine / "pom.xml"), _COPY_JARS]
    subprocess.run([*maven, "-DincludeScope=runtime", f"-DoutputDirectory={beam}"], check=True)
    check_hashes(beam, MAVEN / engine / "jars.sha256")
    for jar in beam.iterdir():
        if re.fullmatch(_THEIRS[engine], jar.name):
            jar.unlink()
    if engine == "flink":
        # With each job, the job server sends every jar of its class path, which takes 80 ms a jar.
        merge_jars(sorted(beam.iterdir()), target / "beam.jar")
        shutil.rmtree(beam)
        beam.mkdir()
        (target / "beam.jar").rename(beam / "beam.jar")
    (target / _stamp(engine)).touch()


def merge_jars(jars: Iterable[Path], target: Path) -> None:
    """Makes one jar of several: of equal names the first one counts, but lists of services are put together."""
    services: dict[str, list[str]] = {}
    seen = {"META-INF/MANIFEST.MF"}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as merged:
        merged.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\r\nMulti-Release: true\r\n\r\n")
        for path in jars:
            with zipfile.ZipFile(path) as jar:
                for name in jar.namelist():
                    if re.fullmatch(r"META-INF/services/[^/]+", name):
                        services.setdefault(name, []).extend(jar.read(name).decode().splitlines())
                    elif name not in seen and not re.fullmatch(_OF_ONE_JAR, name):
                        seen.add(name)
                        merged.writestr(name, jar.read(name))
        for name, lines in services.items():
            merged.writestr(name, "\n".join(dict.fromkeys(lines)) + "\n")


def check_hashes(folder: Path, pins: Path) -> None:
    """Compares the files of a folder with a list that `sha256sum` wrote.

    Raises:
      SystemExit: A file is missing, is one too many, or isn't the one that was pinned.
    """
    expected = dict(reversed(line.split()) for line in pins.read_text().splitlines())
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        sys.exit(f"make engines: {', '.join(wrong)}: not the files that {pins.name} of {pins.parent.name} pins")


if __name__ == "__main__":
    main()
