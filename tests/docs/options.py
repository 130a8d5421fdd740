"""Commands that aren't run are checked against the programs that would run them."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import itertools
import re
import sys
import tempfile
from pathlib import Path

import typer
from pages import ROOT, Block

from tf_hqgnn.beam.flags import parse_flags
from tf_hqgnn.cli.commands import app
from tf_hqgnn.config import Config

# typer brings a copy of click in some releases, and needs click itself in others.
USAGE_ERROR = typer.BadParameter.__base__
_COMMANDS = typer.main.get_command(app)
_MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
_RUNNERS = {"pipelines.run_local": "run", "pipelines.run_kubeflow": "compile"}
# Programs of others; of their options only those that name files of ours are checked.
_OTHERS = {
    *("cp", "curl", "docker", "export", "gcc", "git", "java", "kfp", "kubectl", "mvn", "pip", "podman", "rsync", "uv"),
    *("chmod", "du", "mv", "pipelines/build_image.sh", "kubectl", "protoc", "nvidia-smi", "grpcurl", "apt-get"),
}
# Options whose value is a file of the repository.
_FILES = {"-f", "-k", "--config"}
_ENDS = {"&&", "||", "|", "&", ";"}


def check_commands(block: Block) -> None:
    """Fails on a command, an option or a file that doesn't exist."""
    for words in block.commands():
        for command in _split(words):
            check_command(command)


def check_command(words: list[str]) -> None:
    """Checks one command.

    Raises:
      AssertionError: There is no such command, option, target of make, module or file; the message says which.
    """
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0], re.DOTALL):
        words = words[1:]
    if not words:
        return
    program, *arguments = [word.removeprefix(".venv/bin/") for word in words]
    if program == "tf-hqgnn":
        _check_ours(arguments)
    elif program == "make":
        _check_make(arguments)
    elif program in ("python", "python3"):
        _check_python(arguments)
    else:
        assert program in _OTHERS, f"{program}: neither a program of ours nor one of the others that pages may name"
        _check_files(program, arguments)


def check_python(block: Block) -> None:
    """Fails where the code isn't Python, or imports a name of ours that isn't there."""
    for node in ast.walk(ast.parse(block.code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("tf_hqgnn", "pipelines"):
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"


def check_settings(block: Block) -> None:
    """Fails where settings in YAML are unknown or out of range."""
    Config.from_yaml(block.code, source=block.where)


def check_steps(block: Block) -> None:
    """Fails where a file of steps, in YAML, has an unknown step or field."""
    steps = importlib.import_module("pipelines.kubeflow_steps")
    known = set(re.findall(r"^(\w+):", steps.DEFAULT_STEPS.read_text(encoding="utf-8"), re.MULTILINE))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "steps.yaml")
        path.write_text(block.code, encoding="utf-8")
        steps.read_steps(path, known - {steps.ALL})


def _split(words: list[str]) -> list[list[str]]:
    commands: list[list[str]] = [[]]
    for word in words:
        if word in _ENDS:
            commands.append([])
        else:
            commands[-1].append(word)
    return [command for command in commands if command]


def _check_ours(arguments: list[str]) -> None:
    """Parses as the command line does, and stops before anything is done."""
    command, context = _COMMANDS, None
    rest = list(arguments)
    for _ in range(3):
        # "..." stands for options that were named before.
        if not hasattr(command, "commands"):
            break
        assert rest, f"tf-hqgnn {' '.join(arguments)}: a command is missing"
        assert rest[0] in command.commands, f"tf-hqgnn has no command {' '.join(arguments[:2])}"
        command = command.commands[rest.pop(0)]
    abbreviated = "..." in rest
    rest = [word for word in rest if word != "..."]
    if abbreviated:
        known = {name for parameter in command.params for name in parameter.opts}
        ours = [word for word in rest if word.startswith("-") and word.partition("=")[0] in known]
        others = [word for word in rest if word not in ours]
        parse_flags([word for word in others if word.startswith("-")])
        return
    context = command.make_context(command.name, rest)
    if context.args:
        parse_flags(context.args)


def _check_make(arguments: list[str]) -> None:
    for word in arguments:
        name, separator, _ = word.partition("=")
        if separator:
            assert re.search(rf"\$\(?{name}\b|^{name} \?=|\$\({name}\)", _MAKEFILE, re.MULTILINE), f"make: no {name}="
        else:
            assert re.search(rf"^{re.escape(word)}:", _MAKEFILE, re.MULTILINE), f"make: no target {word}"


def _check_python(arguments: list[str]) -> None:
    if arguments[0] == "-m":
        module, *rest = arguments[1:]
        if module in _RUNNERS:
            _check_ours(["pipeline", _RUNNERS[module], *rest])
            return
        if module.split(".")[0] not in ("tf_hqgnn", "pipelines", "benchmarks"):
            assert importlib.util.find_spec(module.split(".")[0]), f"python -m {module}: no such module"
            return
        spec = importlib.util.find_spec(module)
        assert spec is not None, f"python -m {module}: no such module"
        sources = Path(str(spec.origin)).parent.glob("*.py") if spec.submodule_search_locations else [spec.origin]
        text = "".join(Path(str(source)).read_text(encoding="utf-8") for source in sources)
        for option in rest:
            assert not option.startswith("--") or f'"{option.partition("=")[0]}"' in text, f"{module}: no {option}"
    elif arguments[0] == "serving/label.py":
        sys.path.insert(0, str(ROOT / "serving"))
        try:
            importlib.import_module("label").parse(arguments[1:])
        except SystemExit as error:
            raise AssertionError(f"serving/label.py doesn't understand {' '.join(arguments[1:])}") from error
        finally:
            sys.path.remove(str(ROOT / "serving"))
    elif arguments[0] == "-c":
        ast.parse(arguments[1])
    else:
        assert (ROOT / arguments[0]).is_file(), f"python {arguments[0]}: no such file"


def _check_files(program: str, arguments: list[str]) -> None:
    """Folders of ours that another's program reads."""
    ours = ("serving/", "pipelines/", "serving", "tests/")
    for option, value in itertools.pairwise(arguments):
        if option in _FILES and value.startswith(ours):
            assert (ROOT / value).exists(), f"{program} {option} {value}: no such file"
