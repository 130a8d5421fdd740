"""Executes the notebooks of this folder, for the site: python docs/notebooks/execute.py [NAME..]

A notebook is a program in jupytext's percent format. It becomes a page of Markdown with its pictures in
build/notebooks, and isn't executed again until it changes. As a hook of mkdocs this file adds the pages to the site.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
BUILT = ROOT / "build" / "notebooks"
NAMES = ("movielens", "keras_layers", "quantize_embeddings", "serve_and_query", "a_day_in_production")
_PATIENCE_SECONDS = 600
# Pictures that are sharp at any size; and nothing of what libraries say about themselves in a notebook.
_BEFORE = """
import logging, warnings
%config InlineBackend.figure_formats = ['svg']
logging.getLogger("tensorflow").addFilter(lambda record: record.levelno >= logging.WARNING)
warnings.filterwarnings("ignore", module="google.api_core")
"""
# The page has styles of its own.
_STYLE = re.compile(r"<style scoped>.*?</style>\n", re.DOTALL)
_NOTE = "*This page is a notebook that was executed when the site was built; its source is `docs/notebooks/{}.py`.*\n\n"


def build(name: str) -> Path:
    """Execute a notebook unless its page is up to date; return the page.

    Args:
      name: of the notebook, one of `NAMES`.
    """
    source = (FOLDER / f"{name}.py").read_bytes()
    page, stamp = BUILT / f"{name}.md", BUILT / f"{name}.sha256"
    data = os.environ.get("TF_HQGNN_MOVIELENS", "").encode()
    key = hashlib.sha256(source + data + Path(__file__).read_bytes()).hexdigest()
    if not (page.is_file() and stamp.is_file() and stamp.read_text() == key):
        text, pictures = _convert(_execute(source.decode()), name)
        for path, content in {f"{name}.md": text.encode(), **pictures}.items():
            (BUILT / path).parent.mkdir(parents=True, exist_ok=True)
            (BUILT / path).write_bytes(content)
        stamp.write_text(key)
    return page


def _execute(source: str) -> Any:
    """The notebook with its outputs, by the Python in which the project is installed."""
    import jupytext
    import nbformat
    from nbclient import NotebookClient

    notebook = jupytext.reads(source, fmt="py:percent")
    notebook.cells.insert(0, nbformat.v4.new_code_cell(_BEFORE))
    ours = ROOT / ".venv" / "bin" / "python"
    python = str(ours if ours.exists() else sys.executable)
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as scratch:
        kernel = {"argv": [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"], "env": quiet}
        folder = Path(scratch, "kernels", "tf_hqgnn")
        folder.mkdir(parents=True)
        kernel |= {"display_name": "tf_hqgnn", "language": "python"}
        (folder / "kernel.json").write_text(json.dumps(kernel))
        os.environ["JUPYTER_PATH"] = scratch
        where = {"metadata": {"path": scratch}}
        NotebookClient(notebook, timeout=_PATIENCE_SECONDS, kernel_name="tf_hqgnn", resources=where).execute()
    del notebook.cells[0]
    for cell in notebook.cells:
        _join_lines(cell.get("outputs", []))
    return notebook


def _join_lines(outputs: list[Any]) -> None:
    """Makes one text of lines that were printed one after the other."""
    for place in range(len(outputs) - 1, 0, -1):
        before, after = outputs[place - 1], outputs[place]
        if before["output_type"] == after["output_type"] == "stream":
            before["text"] += after["text"]
            del outputs[place]


def _convert(notebook: Any, name: str) -> tuple[str, dict[str, bytes]]:
    """Markdown, and the files of its pictures."""
    from nbconvert import MarkdownExporter

    files = {"output_files_dir": f"{name}_files", "unique_key": name}
    text, resources = MarkdownExporter().from_notebook_node(notebook, resources=files)
    text = _STYLE.sub("", text).replace(' border="1"', "")
    title, _, rest = text.lstrip().partition("\n\n")
    return f"{title}\n\n{_NOTE.format(name)}{rest}", dict(resources.get("outputs") or {})


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages and their pictures to the site; called by mkdocs."""
    from mkdocs.structure.files import File

    for name in NAMES:
        page = build(name)
        for path in (page, *sorted(BUILT.glob(f"{name}_files/*"))):
            uri = f"notebooks/{path.relative_to(BUILT).as_posix()}"
            file = File.generated(config, uri, content=path.read_bytes())
            files.append(file)
    return files


if __name__ == "__main__":
    for notebook_name in sys.argv[1:] or NAMES:
        sys.stdout.write(f"{build(notebook_name)}\n")
