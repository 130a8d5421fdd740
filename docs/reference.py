"""Writes cli.md, settings.md and signatures.md in docs/reference from the code: python docs/reference.py

With --check it writes nothing, and ends with 1 if a page is stale.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import typer
from annotated_types import Ge, Gt, Le, Lt

from tf_hqgnn.cli.commands import app
from tf_hqgnn.config import Config, RangeConfig
from tf_hqgnn.config.presets import find_config, preset_names
from tf_hqgnn.config.section import Section
from tf_hqgnn.data.formats.input_format import INPUT_FORMATS
from tf_hqgnn.export.guide_files import programs, tables
from tf_hqgnn.export.layout import EXACT_MODEL
from tf_hqgnn.losses.loss import LOSSES
from tf_hqgnn.models.encoders.choice import ENCODERS
from tf_hqgnn.models.optimizer_choice import OPTIMIZERS
from tf_hqgnn.ode.solvers.solver import SOLVERS
from tf_hqgnn.quantization.gradient_estimators.estimator import ESTIMATORS
from tf_hqgnn.retrieval.indices.index import INDICES

FOLDER = Path(__file__).resolve().parent / "reference"
_MADE = "<!-- Written by docs/reference.py from the code: change the code, and run it again. -->\n"
# What a name may be where a registry says it.
_NAMES = {
    "data.format": ("auto", *INPUT_FORMATS.names()),
    "model.encoder": ENCODERS.names(),
    "training.optimizer": OPTIMIZERS.names(),
    "loss.name": LOSSES.names(),
    "propagation.solver": SOLVERS.names(),
    "quantization.estimator": ESTIMATORS.names(),
    "retrieval.index": ("auto", *INDICES.names()),
}
_KINDS = {bool: "true or false", int: "whole number", float: "number", str: "text", NoneType: "null"}
_BOUNDS = {Ge: "at least", Gt: "above", Le: "at most", Lt: "below"}


def pages() -> dict[str, str]:
    """Return the text of each page, by the name of its file."""
    return {"cli.md": _commands(), "settings.md": _settings(), "signatures.md": _signatures()}


def _signatures() -> str:
    about = (
        "What each signature takes and returns, the same over REST, over gRPC and in your own process. The file "
        "`assets.extra/README.md` in every version of an export says the same of that version. It has a line of `curl` "
        "and one of `grpcurl` for each signature, and beside it, in `requests/`, is a request for each that a server "
        "answers as it is. [What a request can ask](../requests.md) explains the signatures with examples."
    )
    examples = (
        "The programs below ask `recommend`. Their last lines say how to build and run them. "
        "[From Java, Go and C](../other_languages.md) says where the libraries come from.\n\n"
        "Tensor names in C are numbered at export, so take that program from the `README.md` of your version."
    )
    return f"# Every signature\n\n{_MADE}\n{_paragraphs(about)}\n\n{tables()}\n{_paragraphs(examples)}\n\n" + programs(
        EXACT_MODEL
    )


def _commands() -> str:
    parts = [
        f"# Command line\n\n{_MADE}\nEvery command and every option. `tf-hqgnn COMMAND --help` shows the same.\n\n"
        "Exit codes: 0 done, 2 wrong usage or bad input, 1 anything else. A mistake is one line on standard error.\n"
    ]
    root: Any = typer.main.get_command(app)
    for name, command in _walk(root, "tf-hqgnn"):
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        usage = " ".join([name, *(_metavar(one) for one in arguments), "[OPTIONS]"])
        parts.append(f"## {name}\n\n```text\n{usage}\n```\n\n{_paragraphs(command.help or '')}\n")
        rows = [_parameter(one) for one in command.params if one.name != "help"]
        if rows:
            parts.append(_table(("argument or option", "meaning", "default"), rows))
    return "\n".join(parts)


def _walk(group: Any, name: str) -> Iterator[tuple[str, Any]]:
    for word, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _walk(command, f"{name} {word}")
        else:
            yield f"{name} {word}", command


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _parameter(parameter: Any) -> tuple[str, str, str]:
    if parameter.param_type_name == "argument":
        name = f"`{_metavar(parameter)}`"
    else:
        value = "" if parameter.is_flag else f" {_metavar(parameter)}"
        name = ", ".join(f"`{one}{value}`" for one in (*parameter.opts, *parameter.secondary_opts))
    default = "required" if parameter.required else _default(parameter.default)
    if getattr(parameter, "is_flag", False):
        default = "yes" if parameter.default else ""
    return name, parameter.help or "", default


def _default(value: Any) -> str:
    if value is None or value == "" or value == () or callable(value):
        return ""
    return f"`{getattr(value, 'value', value)}`"


def _settings() -> str:
    presets = ", ".join(f"`{name}`" for name in preset_names())
    parts = [
        f"# Every setting\n\n{_MADE}\nA file of settings is YAML, with a section for each heading below. What it "
        "leaves out has its default.\n`--set SECTION.KEY=VALUE` overrides a setting, and in Python "
        '`Recommender(**{"section.key": value})` does.\n\n'
        + _paragraphs(f"Presets are files of settings, taken by name: {presets}.")
        + "\nThis is `auto`, the default of `train`, pipelines and `Recommender`:\n\n```yaml\n"
        + find_config("auto").read_text(encoding="utf-8").strip()
        + "\n```\n"
    ]
    top = [_setting("seed", Config.model_fields["seed"])]
    parts.append("## Without a section\n\n" + _table(("setting", "values", "default", "meaning"), top))
    for name, field in Config.model_fields.items():
        if _is_section(field.annotation):
            parts += _section(name, field.annotation)
    parts += _section("tune.ranges.SECTION.KEY", RangeConfig)
    return "\n".join(parts)


def _section(name: str, section: Any) -> Iterator[str]:
    fields = dict(section.model_fields)
    if name == "loss":
        # A loss brings its own settings.
        fields |= {key: field for loss in LOSSES.names() for key, field in LOSSES[loss].model_fields.items()}
    rows = [_setting(f"{name}.{key}", field) for key, field in fields.items() if not _is_section(field.annotation)]
    about = " ".join((section.__doc__ or "").split("\n\n")[0].split())
    yield f"## {name}\n\n{about}\n\n{_table(('setting', 'values', 'default', 'meaning'), rows)}"
    for key, field in fields.items():
        if _is_section(field.annotation):
            yield from _section(f"{name}.{key}", field.annotation)


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _setting(name: str, field: Any) -> tuple[str, str, str, str]:
    kind = _values(field.annotation)
    if name in _NAMES:
        kind = ", ".join(f"`{one}`" for one in _NAMES[name])
    bounds = [
        f"{word} {limit:,}" if isinstance(limit, int) else f"{word} {limit:g}"
        for bound, word in _BOUNDS.items()
        for one in field.metadata
        if isinstance(one, bound)
        for limit in [getattr(one, bound.__name__.lower())]
    ]
    values = ", ".join([kind, " and ".join(bounds)] if bounds else [kind])
    default = field.get_default(call_default_factory=True)
    shown = default if isinstance(default, str) else json.dumps(default)
    return f"`{name}`", values, f"`{shown}`", field.description or ""


def _values(annotation: Any) -> str:
    """What values of a type are, in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{json.dumps(one)}`" if isinstance(one, bool) else f"`{one}`" for one in arguments)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_values(one) for one in arguments))
    if origin is tuple:
        return "list"
    if origin is dict:
        return "mapping"
    return _KINDS.get(annotation, "text")


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *(tuple(map(_cell, row)) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(text: str, table: bool = True) -> str:
    """Text of the code as Markdown: placeholders are no HTML, and in a table a bar is no border."""
    parts = text.split("`")
    # Between backticks everything is shown as it is.
    parts[::2] = [part.replace("<", "&lt;").replace("*", "\\*") for part in parts[::2]]
    escaped = "`".join(parts)
    return escaped.replace("|", "\\|").replace("\n", " ") if table else escaped


def _paragraphs(text: str) -> str:
    """Text of the code as paragraphs of Markdown, in lines of at most 120 characters."""
    return "\n\n".join(textwrap.fill(_cell(part, table=False), 120) for part in text.split("\n\n"))


def main() -> int:
    """Writes the pages, or with --check compares them; returns the exit code."""
    stale = [
        name
        for name, text in pages().items()
        if not (FOLDER / name).is_file() or (FOLDER / name).read_text(encoding="utf-8") != text
    ]
    if "--check" in sys.argv[1:]:
        for name in stale:
            sys.stderr.write(f"docs/reference/{name} is stale: run python docs/reference.py\n")
        return 1 if stale else 0
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
