"""The pages of the documentation and the blocks of code in them.

A block begins with its language. What a comment right before it says:

    <!-- not run: a cluster -->          the block isn't run, for want of a cluster; its options are checked
    <!-- run by: docs/quick_start.md --> that page has the same lines; or, for a file of tests, it names this page

And anywhere on a page:

    <!-- begins with: log.csv run -->    the files that the page finds in its folder; without it, all of `shop`
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What is generated, executed or checked elsewhere.
_ELSEWHERE = ("notebooks", "reference")
PAGES = [
    ROOT / "README.md",
    *sorted(
        path for path in (ROOT / "docs").glob("**/*.md") if path.relative_to(ROOT / "docs").parts[0] not in _ELSEWHERE
    ),
]
# Languages in which nothing can be run or checked: what a program prints, and drawings of letters.
SHOWN = ("text", "json")
_BLOCK = re.compile(
    r"(?:^ *<!-- (?P<how>not run|run by)(?:: (?P<reason>[^>]+?))? -->\n+)?"
    r"^(?P<indent> *)```(?P<language>[^\n]*)\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_BEGINNING = re.compile(r"<!-- begins with:(?P<names>[^>]*)-->")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Args:
      page: where it stands.
      line: of its first line of code, from 1.
      language: after the fence.
      code: without the indentation of the fence.
      how: "not run" or "run by" of the comment before it; None without one.
      reason: what the comment says more: what there isn't, or what runs the block.
    """

    page: Path
    line: int
    language: str
    code: str
    how: str | None
    reason: str | None

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def commands(self) -> list[list[str]]:
        """The words of each command of a shell, without comments; a pipe, && and & are words."""
        text = self.code.replace("\\\n", " ")
        # A quoted text may go on for lines.
        lines, open_line = [], ""
        for line in text.splitlines():
            open_line = f"{open_line}\n{line}" if open_line else line
            try:
                words = shlex.split(open_line, comments=True)
            except ValueError:
                continue
            open_line = ""
            if words:
                lines.append(words)
        assert not open_line, f"{self.where}: a quote isn't closed"
        return lines


def blocks_of(page: Path, text: str | None = None) -> list[Block]:
    """All blocks of a page, in their order."""
    text = page.read_text(encoding="utf-8") if text is None else text
    found = []
    for match in _BLOCK.finditer(text):
        indent = match["indent"]
        code = "".join(line.removeprefix(indent) for line in match["code"].splitlines(keepends=True))
        line = text.count("\n", 0, match.start("code")) + 1
        found.append(Block(page, line, match["language"].strip(), code, match["how"], match["reason"]))
    return found


def begins_with(page: Path) -> tuple[str, ...] | None:
    """The names of the files and folders that the page finds; None for all."""
    found = _BEGINNING.search(page.read_text(encoding="utf-8"))
    return None if found is None else tuple(found["names"].split())
