"""What `make engines` says before and after it has put something here."""

import hashlib
import sys
import time
import zipfile
from pathlib import Path

import pytest

from engines import install
from engines.install import check_hashes, merge_jars, missing_tools
from engines.processes import Processes


def program(folder, name, line):
    (folder / name).write_text(f"#!/bin/sh\n{line}\n")
    (folder / name).chmod(0o755)


def test_what_is_missing_is_named_with_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    wanted = "Flink and Spark need Java 17 and Maven; on Debian: apt-get install openjdk-17-jdk-headless maven"
    assert missing_tools() == wanted
    program(tmp_path, "java", "echo 'openjdk version \"11.0.2\" 2019-01-15' >&2")
    assert missing_tools() == wanted
    program(tmp_path, "mvn", "")
    assert missing_tools() == (
        'Flink and Spark need Java 17 as `java` on PATH; found openjdk version "11.0.2" 2019-01-15'
    )
    program(tmp_path, "java", "echo 'openjdk version \"17.0.15\" 2025-04-15' >&2")
    assert missing_tools() is None


def test_prism_is_left_out_where_it_cannot_be_built(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(install, "FOLDER", tmp_path / "engines")
    monkeypatch.setenv("PATH", str(tmp_path))
    install.build_prism()
    assert capsys.readouterr().out == "prism isn't built, for want of Go 1.26: its tests are skipped\n"
    program(tmp_path, "go", "exit 1")
    install.build_prism()
    assert capsys.readouterr().out.endswith(
        "prism isn't built, for want of Go 1.26 or of its modules: its tests are skipped\n"
    )
    assert not install.is_installed("prism")
    program(tmp_path, "go", 'while [ "$1" != -o ]; do shift; done\n: > "$2"')
    install.build_prism()
    assert install.is_installed("prism")


def test_only_the_pinned_files_are_taken(tmp_path):
    folder, pins = tmp_path / "jars", tmp_path / "flink" / "jars.sha256"
    folder.mkdir()
    pins.parent.mkdir()
    contents = {"a.jar": b"one", "b.jar": b"two"}
    pins.write_text("".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in contents.items()))
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    check_hashes(folder, pins)
    (folder / "a.jar").write_bytes(b"another")
    (folder / "b.jar").unlink()
    (folder / "c.jar").write_bytes(b"")
    with pytest.raises(
        SystemExit, match=r"^make engines: a.jar, b.jar, c.jar: not the files that jars.sha256 of flink"
    ):
        check_hashes(folder, pins)


def test_processes_are_found_again_and_end_with_what_they_started(tmp_path):
    inner = "import os, time; print(os.getpid(), flush=True); time.sleep(999)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    started = Processes(tmp_path)
    started.start("one", [sys.executable, "-c", code])
    started.wait("one", lambda: (tmp_path / "one.log").read_text().endswith("\n"))
    pid, child = Processes(tmp_path).pid("one"), int((tmp_path / "one.log").read_text())
    with pytest.raises(RuntimeError, match=f"^one runs already, with the id {pid}$"):
        started.start("one", [sys.executable])
    # The id of a process that started at another time is another process's.
    (tmp_path / "other.pid").write_text(f"{pid} 1")
    assert started.pid("other") is None
    since = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[19]
    (tmp_path / "child.pid").write_text(f"{child} {since}")
    assert started.pid("child") == child
    started.kill("one")
    assert started.pid("one") is None
    deadline = time.monotonic() + 100
    while started.pid("child") is not None:
        assert time.monotonic() < deadline


def test_a_process_that_ends_at_once_shows_its_log(tmp_path):
    processes = Processes(tmp_path)
    processes.start("one", [sys.executable, "-c", "raise SystemExit('no memory')"])
    with pytest.raises(RuntimeError, match=r"^one isn't ready:\nno memory\n$"):
        processes.wait("one", lambda: False)
    processes.stop()
    assert not list(tmp_path.glob("*.pid"))


def test_merged_jars_offer_the_services_of_all(tmp_path):
    parts = {
        "a.jar": {"META-INF/services/x.Y": "one", "META-INF/MANIFEST.MF": "a", "x/A.class": "first", "x/": ""},
        "b.jar": {"META-INF/services/x.Y": "two\none\n", "META-INF/B.SF": "b", "x/A.class": "second", "x/B.class": "b"},
    }
    for name, entries in parts.items():
        with zipfile.ZipFile(tmp_path / name, "w") as jar:
            for entry, text in entries.items():
                jar.writestr(entry, text)
    merge_jars([tmp_path / name for name in parts], tmp_path / "all.jar")
    with zipfile.ZipFile(tmp_path / "all.jar") as jar:
        found = {name: jar.read(name).decode() for name in jar.namelist()}
        assert len(found) == len(jar.namelist())
    assert "Multi-Release: true" in found.pop("META-INF/MANIFEST.MF")
    assert found == {"META-INF/services/x.Y": "one\ntwo\n", "x/A.class": "first", "x/B.class": "b"}
