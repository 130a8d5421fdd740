"""An extension of griffe, which reads docstrings for the site: the examples of ours become its section `Examples`."""

from __future__ import annotations

import re
from typing import Any

import griffe


class DocstringExamples(griffe.Extension):
    """Names the section as griffe knows it, and indents examples that stand at the margin."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """See griffe."""
        if obj.docstring is not None:
            obj.docstring.value = with_sections(obj.docstring.value)


def with_sections(text: str) -> str:
    """Return a docstring whose examples are a section, wherever they stand."""
    lines: list[str] = []
    is_example = False
    for line in text.splitlines():
        if re.fullmatch(r"Examples?:", line):
            line = "Examples:"
        elif line.startswith(">>> ") and not is_example:
            is_example = True
            if not lines or lines[-1] != "Examples:":
                lines.append("Examples:")
        elif not line:
            is_example = False
        lines.append(f"    {line}" if is_example else line)
    return "\n".join(lines)
