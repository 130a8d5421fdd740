"""`make audit` with pip-audit and cyclonedx-py themselves, against a database of advisories on this machine."""

from __future__ import annotations

import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-audit" / "bin" / "python"
LOCK = """\
six==1.17.0 \\
    --hash=sha256:4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274
    # via nobody
protobuf==3.20.3 ; python_full_version < '3.11' \\
    --hash=sha256:03038ac1cfbc41aa21f6afcbcd357281d7521b4157926f30ebecc8d4ea59dcb7
protobuf==4.25.9 ; python_full_version >= '3.11' \\
    --hash=sha256:0862bb6aed32b3cd16f7b25cd9f2ff6c3d6b1e0bdf6df4a9a8f25c6a2b61e03b
colorama==0.4.6 ; sys_platform == 'win32' \\
    --hash=sha256:4f1d9991f5acc0ca119f9d443620b77f9d6b33703e51011c16baf57afb285fc6
"""
ADVISORIES = {
    ("protobuf", "3.20.3"): {
        "id": "GHSA-8qvm-5x2c-j2w7",
        "aliases": ["CVE-2025-4565"],
        "summary": "Deeply nested messages",
        "affected": [
            {
                "package": {"name": "protobuf", "ecosystem": "PyPI"},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "4.25.8"}]}],
            }
        ],
    }
}


class Database(BaseHTTPRequestHandler):
    """OSV's query."""

    def do_POST(self):
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = (query["package"]["name"], query["version"])
        self.server.asked.add(key)
        body = json.dumps({"vulns": [ADVISORIES[key]]} if key in ADVISORIES else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def database():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Database)
    server.asked = set()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def audit(folder: Path, *options: object, judged: str = "") -> subprocess.CompletedProcess[str]:
    assert PYTHON.exists(), f"{PYTHON} is missing: `make .venv-audit/.installed` makes it"
    (folder / "lock").write_text(LOCK)
    (folder / "SECURITY.md").write_text(judged)
    files = ["--lock", folder / "lock", "--out", folder / "bill.json", "--judged", folder / "SECURITY.md"]
    command = [PYTHON, ROOT / "supply_chain" / "audit.py", *files, *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def url(database) -> str:
    return f"http://127.0.0.1:{database.server_address[1]}/v1/query"


def test_both_pythons_are_looked_up_and_the_bill_has_every_package_with_its_hashes(tmp_path, database):
    done = audit(tmp_path, "--osv-url", url(database), judged="Another one is CVE-2020-1.")
    assert done.returncode == 1, done.stderr
    # What holds on neither Python of Linux isn't asked for.
    assert database.asked == {("six", "1.17.0"), ("protobuf", "3.20.3"), ("protobuf", "4.25.9")}
    assert "NOT JUDGED protobuf 3.20.3: CVE-2025-4565, GHSA-8qvm-5x2c-j2w7 (fixed in 4.25.8)" in done.stdout
    assert done.stdout.endswith("1 advisories; 1 of them are not judged in SECURITY.md\n")
    bill = json.loads((tmp_path / "bill.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "tf_hqgnn"
    found = {part["purl"]: part["externalReferences"][0]["hashes"][0]["content"] for part in bill["components"]}
    assert {purl.partition("?")[0] for purl in found} == {
        "pkg:pypi/six@1.17.0",
        "pkg:pypi/protobuf@3.20.3",
        "pkg:pypi/protobuf@4.25.9",
        "pkg:pypi/colorama@0.4.6",
    }
    assert all(content in LOCK for content in found.values())


@pytest.mark.parametrize("name", ["CVE-2025-4565", "GHSA-8qvm-5x2c-j2w7"])
def test_what_is_judged_by_any_of_its_names_is_no_error(tmp_path, database, name):
    done = audit(tmp_path, "--osv-url", url(database), judged=f"| {name} | doesn't apply |")
    assert done.returncode == 0, done.stderr
    assert "judged     protobuf 3.20.3" in done.stdout


@pytest.mark.parametrize(("options", "code"), [([], 0), (["--strict"], 1)])
def test_where_nobody_can_be_asked_it_says_so(tmp_path, options, code):
    done = audit(tmp_path, "--osv-url", "http://127.0.0.1:1/v1/query", *options)
    assert done.returncode == code
    assert done.stderr.startswith("NOT AUDITED: the database of advisories can't be reached from here: ")
    assert done.stderr.count("\n") == 1
    assert "advisories" not in done.stdout
    assert (tmp_path / "bill.json").is_file()


def test_every_advisory_of_the_table_has_a_judgement():
    """The identifiers of SECURITY.md stand in rows that say whether they matter here."""
    text = (ROOT / "SECURITY.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and ("CVE-" in line or "GHSA-" in line)]
    assert len(rows) > 5
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == 4
        assert all(cells), row
        assert cells[2].startswith(("no", "in part", "yes")), row
