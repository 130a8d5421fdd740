"""The list of tests that `make test` leaves to `make test-long`."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from long_tests import LONG

TESTS = Path(__file__).resolve().parent


@pytest.mark.parametrize("file", LONG)
def test_every_name_is_a_test_of_its_file(file):
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    tests = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert {name.partition("[")[0] for name in LONG[file]} <= tests


@pytest.mark.long
def test_every_name_is_collected():
    files = [TESTS / file for file in LONG]
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-q", "--collect-only", "-m", "long", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=TESTS.parent)
    found = {line.removeprefix("tests/") for line in done.stdout.splitlines() if "::" in line}
    # A name of all cases stands for each of them.
    found |= {node.partition("[")[0] for node in found}
    assert {f"{file}::{name}" for file, names in LONG.items() for name in names} <= found
