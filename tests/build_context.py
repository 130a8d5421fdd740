"""What a builder is sent of a folder, by its .dockerignore: the rules of docker's patternmatcher and of its walk."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class _Rule:
    text: str
    ignores: bool
    pattern: re.Pattern[str]


def sent(root: Path) -> set[str]:
    """Files under `root` that a build may copy, relative to it."""
    rules = []
    for line in map(str.strip, (root / ".dockerignore").read_text().splitlines()):
        if line and not line.startswith("#"):
            text = line.removeprefix("!").strip("/")
            rules.append(_Rule(text, not line.startswith("!"), _regex(text)))
    return set(_walk(root, "", rules))


def _walk(root: Path, folder: str, rules: list[_Rule]) -> Iterator[str]:
    for path in (root / folder).iterdir():
        name = path.relative_to(root).as_posix()
        ignored = _is_ignored(name, rules)
        if path.is_dir():
            # A folder that is left out is looked into only where an exception names it letter by letter.
            if not ignored or any(f"{rule.text}/".startswith(f"{name}/") for rule in rules if not rule.ignores):
                yield from _walk(root, name, rules)
        elif not ignored:
            yield name


def _is_ignored(name: str, rules: list[_Rule]) -> bool:
    names = name.split("/")
    parents = ["/".join(names[:count]) for count in range(1, len(names) + 1)]
    ignored = False
    # The last rule that fits the file or a folder that it is in decides.
    for rule in rules:
        if any(rule.pattern.fullmatch(path) for path in parents):
            ignored = rule.ignores
    return ignored


def _regex(pattern: str) -> re.Pattern[str]:
    parts = {r"\*\*/": "(?:.*/)?", r"\*\*": ".*", r"\*": "[^/]*", r"\?": "[^/]"}
    return re.compile(re.sub(r"\\\*\\\*/|\\\*\\\*|\\\*|\\\?", lambda match: parts[match[0]], re.escape(pattern)))
