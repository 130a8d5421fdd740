"""Every snippet of README.md and docs/ is run in the order of its page, unless it needs what no test has.

`make test-docs` runs them; `make test` looks at the options of what can't be run, and at the rest of the pages.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import textwrap
import urllib.request
from contextlib import ExitStack

import pytest
import yaml
from options import USAGE_ERROR, check_command, check_commands, check_python, check_settings, check_steps
from pages import PAGES, ROOT, SHOWN, begins_with, blocks_of

from tf_hqgnn.config import Config
from tf_hqgnn.explore.server import ExploreServer
from tf_hqgnn.export.layout import SCANN_MODEL
from tf_hqgnn.losses.loss import LOSSES
from tf_hqgnn.models.encoders.choice import ENCODERS
from tf_hqgnn.retrieval.indices.index import INDICES
from tf_hqgnn.serving.config_files import read_tls_keys
from tf_hqgnn.serving.server import Server
from tf_hqgnn.types import InputError

from tensorflow.core.protobuf import saved_model_pb2  # isort: skip

# The same programs with less to do: a race of this many steps takes a second.
_STEPS = "auto.steps=60"
_COLUMNS = ["user_id", "rank", "item_id", "score", "known"]
# What no test has.
_MISSING = re.compile(r"a (container engine|cluster)\b|Vertex AI|GPU|Java|Go\b|a program of your own")


class Reader:
    """Somebody who does what a page says, in one folder and one Python.

    Args:
      run_command: runs `tf-hqgnn`.
      folder: where.
      serve: gives a server of an export.
    """

    def __init__(self, run_command, folder, serve):
        self._run_command, self._folder, self._start_server = run_command, folder, serve
        self._names = {"__name__": "__main__"}
        self._ports = {}
        self.last = None

    def do(self, block):
        getattr(self, f"_{block.language}")(block)

    def _python(self, block):
        code = block.code.replace("Recommender()", f"Recommender(**{dict([_STEPS.split('=')])})".replace("'60'", "60"))
        # Tracebacks name the line of the page.
        tree = ast.parse("\n" * (block.line - 1) + self._at_ports(code), str(block.page))
        # As a notebook shows it.
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, str(block.page), "exec", dont_inherit=True), self._names)
        if last is not None:
            shown = compile(ast.Expression(last.value), str(block.page), "eval", dont_inherit=True)
            self.last = eval(shown, self._names)

    def _bash(self, block):
        for words in block.commands():
            words = [self._at_ports(word) for word in words]
            if words[:2] == ["tf-hqgnn", "serve"]:
                self._serve(words[2:])
            elif words[:2] == ["tf-hqgnn", "explore"]:
                self._explore(words[2:])
            elif words[0] in ("tf-hqgnn", "python"):
                self._run(words)
            elif words[0] == "curl":
                self._curl(words)
            else:
                pytest.fail(f"{block.where}: {words[0]} isn't run here; say why by <!-- not run: REASON -->")

    def _yaml(self, block):
        values = yaml.safe_load(block.code)
        assert set(values) <= set(Config.model_fields), f"{block.where}: not settings"
        check_settings(block)

    def _run(self, words):
        is_auto = words[1] == "train" and (words[2] == "auto" or words[2].startswith("-")) and "--seconds" not in words
        if is_auto or "pipelines.run_local" in words or words[1:3] == ["pipeline", "run"]:
            words = [*words, "--set", _STEPS]
        done = self._run_command.run(words, cwd=self._folder)
        assert done.code == 0, f"{' '.join(words)}: {done.out[-2000:]}{done.err}"

    def _serve(self, words):
        assert words[-1] == "&", "a server that the page goes on beside ends with &"
        check_command(["tf-hqgnn", "serve", *words[:-1]])
        options = dict(zip(words[1:-1:2], words[2:-1:2]))
        keys = options.pop("--ssl_config_file", None)
        server = self._start_server(
            self._folder / words[0], keys and self._folder / keys, options.pop("--rest-port", None) == "0"
        )
        assert not options, f"{options} would be ignored here"
        self._ports = {"localhost:8500": server.grpc_port, "localhost:8501": server.rest_port}

    def _explore(self, words):
        (export,) = words
        with ExploreServer(self._folder / export, port=0) as page, urllib.request.urlopen(page.url) as answer:
            assert "<title>Explorer" in answer.read().decode()

    def _at_ports(self, text):
        for address, port in self._ports.items():
            text = text.replace(address, f"127.0.0.1:{port}")
        return text

    def _curl(self, words):
        done = subprocess.run([*words, "--silent", "--max-time", "60"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        if done.stdout.startswith("{"):
            assert "error" not in json.loads(done.stdout), done.stdout


@pytest.fixture
def registries():
    """Forgets what a page registers."""
    before = {registry: registry.names() for registry in (LOSSES, ENCODERS, INDICES)}
    yield
    for registry, names in before.items():
        for name in set(registry.names()) - set(names):
            registry.remove(name)


@pytest.fixture(scope="module")
def serve(tmp_path_factory):
    """A function that serves the exact models of an export; that of `shop` has one server for all pages."""
    servers = {}
    with ExitStack() as stack:

        def start(export, keys=None, without_rest=False):
            models = sorted(file.parents[1] for file in export.glob("*/1/saved_model.pb"))
            models = [model for model in models if model.name != SCANN_MODEL]
            variables = [next((model / "1" / "variables").glob("variables.data-*")).read_bytes() for model in models]
            asked = tuple(variables), keys is not None, without_rest
            if asked not in servers:
                served = tmp_path_factory.mktemp("served")
                for model in models:
                    shutil.copytree(model, served / model.name)
                tls = None if keys is None else read_tls_keys(keys)
                server = Server(served, grpc_port=0, rest_port=None if without_rest else 0, tls_keys=tls)
                servers[asked] = stack.enter_context(server)
            return servers[asked]

        yield start


@pytest.fixture
def read(folder, run_command, serve):
    """A function that does what a page says; returns the reader."""

    def read(page):
        blocks = [block for block in blocks_of(page) if block.language not in SHOWN]
        reader = Reader(run_command, folder(begins_with(page)), serve) if blocks else None
        for block in blocks:
            if block.how is None:
                reader.do(block)
        return reader

    return read


def _check(block):
    """Looks at a block that isn't run here."""
    if block.how == "run by":
        _check_run_by(block)
    elif block.how == "not run":
        assert _MISSING.search(block.reason), f"{block.where}: {block.reason} could be had: run it"
    if block.language == "bash":
        check_commands(block)
    elif block.language == "python":
        check_python(block)
    elif block.language == "yaml":
        check_steps(block)


def _check_run_by(block):
    other = ROOT / block.reason
    text = other.read_text(encoding="utf-8")
    if other.suffix == ".py":
        assert block.page.name in text, f"{block.where}: {block.reason} doesn't name this page"
        return
    run = [one for one in blocks_of(other) if one.how is None and one.language == block.language]
    if block.language == "bash":
        commands = [command for one in run for command in one.commands()]
        assert all(command in commands for command in block.commands()), f"{block.where}: not in {block.reason}"
    else:
        assert block.code in [one.code for one in run], f"{block.where}: not in {block.reason}"


@pytest.mark.docs
@pytest.mark.usefixtures("registries")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_page_runs(page, read):
    if page.name == "benchmarks.md" and not (ROOT.parent / "shared" / "data" / "ml-100k").is_dir():
        pytest.skip("the MovieLens log of ../shared isn't here")
    reader = read(page)
    if page.name == "README.md":
        assert list(reader.last.columns) == _COLUMNS
        assert reader.last["rank"].tolist() == list(range(1, 11))
        assert reader.last["known"].all()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_is_not_run_is_right(page):
    for block in blocks_of(page):
        if block.language not in SHOWN:
            assert block.language, f"{block.where}: a block names its language; text is for what isn't code"
            if block.how is not None:
                _check(block)


def test_the_gate_of_the_page_stands_in_the_pipeline(tmp_path):
    blocks = blocks_of(ROOT / "docs" / "extending.md")
    (put,) = (block for block in blocks if block.how == "run by")
    (gate,) = (block for block in blocks if "def CoverageGate" in block.code)
    names = {"__name__": "__main__"}
    exec(compile(gate.code, gate.where, "exec", dont_inherit=True), names)
    source = (ROOT / "pipelines" / "pipeline.py").read_text(encoding="utf-8")
    before, listed = "    return Pipeline(\n", "            pusher,\n"
    assert source.count(before) == source.count(listed) == 1
    source = source.replace(before, f"{textwrap.indent(put.code, '    ')}{before}")
    source = source.replace(listed, f"            coverage,\n{listed}")
    exec(compile(source, put.where, "exec", dont_inherit=True), names)
    paths = (str(tmp_path / name) for name in ("serving", "store"))
    pipeline = names["create_pipeline"](
        "p", str(tmp_path), Config(), names["Thresholds"](), *paths, data_path="log.csv"
    )
    order = [component.id for component in pipeline.components]
    assert order.index("RankingEvaluator") < order.index("CoverageGate") < order.index("Pusher")


def test_what_make_demo_runs_is_understood():
    (demo,) = (block for block in blocks_of(ROOT / "docs" / "quick_start.md") if "make demo" in block.code)
    for command in demo.commands():
        done = subprocess.run([*command, "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=True)
        (line,) = (line for line in done.stdout.splitlines() if "pipelines.demo" in line)
        assert f'--out "{"mine" if "OUT=mine" in command else "demo"}"' in line
        assert ('--data "log.csv" --items "items.csv"' in line) == ("DATA=log.csv" in command)


@pytest.mark.parametrize(
    "name",
    ["CONTRIBUTING.md", "benchmarks/README.md", "pipelines/README.md", "serving/README.md", "tf_hqgnn/beam/README.md"],
)
def test_commands_of_other_texts_are_understood(name):
    blocks = [block for block in blocks_of(ROOT / name) if block.language in ("", "bash")]
    assert blocks
    for block in blocks:
        check_commands(block)


def test_the_readme_is_one_screen():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert max(map(len, text.splitlines())) <= 120
    python, install, commands = (block for block in blocks_of(ROOT / "README.md") if block.language != "text")
    assert [python.language, install.language, commands.language] == ["python", "bash", "bash"]
    assert len([line for line in python.code.splitlines() if line]) <= 5
    assert len(commands.commands()) == 5


def test_every_signature_is_on_its_page_and_has_a_curl_line(shop):
    page = (ROOT / "docs" / "requests.md").read_text(encoding="utf-8")
    table = (ROOT / "docs" / "reference" / "signatures.md").read_text(encoding="utf-8")
    saved = saved_model_pb2.SavedModel.FromString((shop / "export" / "hqgnn" / "1" / "saved_model.pb").read_bytes())
    names = {name for name in saved.meta_graphs[0].signature_def if not name.startswith("__")}
    assert names == set(re.findall(r"^## (\w+)$", table, re.MULTILINE))
    assert names == set(re.findall(r'"signature_name": "(\w+)"', page)) | {"serving_default"}


def test_the_errors_that_are_explained_are_those_that_are_raised():
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    headings = re.findall(r"^\*\*(`.+?)\*\*", page, re.MULTILINE)
    quoted = [text for heading in headings for text in re.findall(r"`([^`]+)`", heading)]
    source = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "tf_hqgnn").rglob("*.py")))
    # One text where the source joins several.
    source = re.sub(r'"\s*f?"', "", source)
    assert len(quoted) > 10
    assert [text for text in quoted if text not in source] == []


@pytest.mark.parametrize(
    "words",
    [
        "tf-hqgnn train --ouput run",
        "tf-hqgnn trane",
        "tf-hqgnn batch --model m --users all --out o.parquet --runer=FlinkRunner",
        "tf-hqgnn batch ... --flink_mastr=HOST:8081",
        "python -m pipelines.run_local --daata log.csv --out mine",
        "python -m benchmarks.quick_start --dataa ml-100k",
        "python serving/label.py --modl hqgnn",
        "make demmo",
        "make demo DAATA=log.csv",
        "kubectl apply -k servings",
        "kubectl apply -f serving/kubernetes/cpu.yaml",
        "tf-hqgn train",
    ],
)
def test_a_mistyped_command_is_found(words):
    with pytest.raises((AssertionError, InputError, USAGE_ERROR)):
        check_command(words.split())


def test_mistyped_settings_and_imports_are_found():
    page = ROOT / "docs" / "page.md"
    (python, settings) = blocks_of(
        page, "```python\nfrom tf_hqgnn import Recomender\n```\n```yaml\ndata: {pth: log.csv}\n```\n"
    )
    with pytest.raises((AssertionError, AttributeError, ImportError)):
        check_python(python)
    with pytest.raises(InputError, match=r"unknown setting data\.pth"):
        check_settings(settings)


def test_blocks_are_found_with_their_reasons_and_lines():
    text = "# A\n\n<!-- not run: a cluster -->\n\n```bash\nmake demo\n```\n\n1. One\n\n   ```python\n   x = 1\n   ```\n"
    text += "\n<!-- run by: README.md -->\n```bash\nmake demo\n```\n"
    first, second, third = blocks_of(ROOT / "docs" / "page.md", text)
    assert (first.language, first.how, first.reason, first.line) == ("bash", "not run", "a cluster", 6)
    assert first.commands() == third.commands() == [["make", "demo"]]
    assert (second.code, second.how, second.reason, second.line) == ("x = 1\n", None, None, 12)
    assert (third.how, third.reason) == ("run by", "README.md")


def test_what_could_be_run_and_what_another_page_has_not_is_found():
    page = ROOT / "docs" / "page.md"
    (hours,) = blocks_of(page, "<!-- not run: hours -->\n```bash\nmake bench\n```\n")
    with pytest.raises(AssertionError, match="could be had"):
        _check(hours)
    for reason, match in (("README.md", "not in README.md"), ("tests/conftest.py", "doesn't name this page")):
        (elsewhere,) = blocks_of(page, f"<!-- run by: {reason} -->\n```bash\ntf-hqgnn train auto --out x\n```\n")
        with pytest.raises(AssertionError, match=match):
            _check(elsewhere)
