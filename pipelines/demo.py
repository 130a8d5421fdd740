"""`make demo`: a log goes through the pipeline and comes back as recommendations over gRPC."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Container

from tf_hqgnn.logs import quieten_libraries

quieten_libraries()

import numpy as np
from rich.console import Console
from rich.table import Table

from pipelines import run_local
from tf_hqgnn.cli.terminal import plain, printable, replace_unprintable
from tf_hqgnn.config import Config
from tf_hqgnn.data.items import read_items
from tf_hqgnn.data.splits import SplitDataset
from tf_hqgnn.data.synthetic import generate_log, write_log
from tf_hqgnn.explore.server import explore
from tf_hqgnn.export.layout import DEFAULT_MODEL, MODEL_NAMES, read_metadata, version_path
from tf_hqgnn.features.model import FeatureModel
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.serving.client import Client, Explanation, Recommendation, SimilarItems
from tf_hqgnn.types import InputError

_DEFAULT_CONFIG = Path(__file__).resolve().parent.parent / "configs" / "auto.yaml"


def main() -> int:
    """Runs the demo; returns the exit code."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--data", help="a log of interactions; a generated one by default")
    parser.add_argument(
        "--items", help="CSV with item_id, title and features; several, separated by commas, are joined"
    )
    parser.add_argument("--users", help="CSV with user_id and features; several likewise")
    parser.add_argument("--config", default=str(_DEFAULT_CONFIG), help="YAML of settings")
    parser.add_argument("--out", default="demo", help="where everything is written")
    parser.add_argument("--explore", action="store_true", help="leave the explorer's page running at the end")
    arguments = parser.parse_args()
    replace_unprintable()
    # Titles and ids are shown as they are: [rec] is no markup and :cat: no emoji.
    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False, markup=False, emoji=False)
    # A terminated demo must take its server with it, as an interrupted one does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = time.monotonic()
    out = Path(arguments.out)
    data, items = arguments.data, arguments.items
    try:
        if data is None:
            data, items = _generate(out / "data", console)
        options = ["--data", data, "--out", str(out), "--config", arguments.config]
        options += ["--items", items] if items else []
        options += ["--users", arguments.users] if arguments.users else []
        code = run_local.main([*options, *_features(arguments)])
        if code:
            return code
        run = RunDirectory.load(run_local.latest_run(out))
        titles = _titles(items)
        with Server(out / "serving") as address:
            _show(console, address, out / "serving", run.dataset, titles, run.features.users)
    except InputError as error:
        print(f"make demo: {printable(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "\ninterrupted: the server is stopped; run it again, and finished steps come from the cache",
            file=sys.stderr,
        )
        return 130
    _closing(console, out, run, time.monotonic() - started)
    if arguments.explore:
        console.print()
        try:
            explore(out / "serving")
        except InputError as error:
            print(f"make demo: {printable(error)}", file=sys.stderr)
            return 2
    return 0


def _features(arguments: argparse.Namespace) -> list[str]:
    """Options by which the user's own files are learnt from, where the settings don't name columns themselves."""
    config = Config.load(arguments.config)
    sides = {"items": "item_features", "users": "user_features"}
    wanted = [name for side, name in sides.items() if getattr(arguments, side) and not getattr(config.data, name)]
    return [word for name in wanted for word in ("--set", f"data.{name}=auto")]


def _generate(folder: Path, console: Console) -> tuple[str, str]:
    names = ("interactions.csv", "items.csv")
    if not folder.exists():
        console.print("no DATA= given: a generated log of 2,000 users, 1,500 items, 60,000 interactions")
        staged = folder.with_name(f".tmp-{folder.name}")
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        write_log(generate_log(2000, 1500, 60000, seed=2020), *(staged / name for name in names))
        staged.rename(folder)
    data, items = (str(folder / name) for name in names)
    return data, items


def _titles(path: str | None) -> dict[str, str]:
    if path is None:
        return {}
    catalogue = read_items(path)
    return {} if catalogue.title is None else dict(zip(catalogue.item_ids, catalogue.title))


class Server:
    """`tf-hqgnn serve` as a process of its own, stopped on the way out."""

    def __init__(self, folder: Path) -> None:
        # The command's port 0 is off; Python's is any that is free.
        code = (
            "import sys; from tf_hqgnn.logs import quieten_libraries; quieten_libraries(); "
            "from tf_hqgnn.serving.server import serve; serve(sys.argv[1], grpc_port=0, rest_port=None)"
        )
        self._command = [sys.executable, "-c", code, str(folder)]

    def __enter__(self) -> str:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        try:
            return self._address()
        except BaseException:
            self.__exit__()
            raise

    def _address(self) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            found = re.search(r"gRPC (\S+:\d+)", line)
            if found:
                return found.group(1)
        raise RuntimeError(f"the server ended with code {self._process.wait()} before it was ready; its error is above")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def _show(
    console: Console,
    address: str,
    serving: Path,
    dataset: SplitDataset,
    titles: dict[str, str],
    features: FeatureModel | None,
) -> None:
    # Somebody with a middling history: enough to show a taste, short enough to read.
    activity = np.bincount(dataset.train.user_index, minlength=dataset.num_users)
    held_out = np.bincount(dataset.test.user_index, minlength=dataset.num_users)
    candidates = np.flatnonzero((held_out > 0) & (activity >= np.quantile(activity, 0.6)))
    user = int(candidates[np.argmin(activity[candidates])])
    user_id = dataset.user_ids[user]
    history = dataset.item_ids[dataset.train.item_index[dataset.train.user_index == user]]
    later = set(dataset.item_ids[dataset.test.item_index[dataset.test.user_index == user]])
    popular = np.bincount(dataset.train.item_index, minlength=dataset.num_items)
    best_known = sorted(history, key=lambda item: -popular[np.searchsorted(dataset.item_ids, item)])[:8]

    def name(item_id: str) -> str:
        return titles.get(item_id) or item_id

    console.print(f"\nserver on {address} (gRPC)")
    with Client(address) as client:
        console.print(plain(f"user {user_id} took {len(history)} items: {', '.join(map(name, best_known))}, ..."))
        for model in MODEL_NAMES:
            # So that the time below is not that of connecting.
            newest = max(client.status(model))
            kind = "exact" if read_metadata(version_path(serving, model, newest))["exact"] else "approximate"
            began = time.perf_counter()
            (answer,) = client.recommend([user_id], k=10, model=model)
            elapsed = 1000 * (time.perf_counter() - began)
            title = f"{model} ({kind}) recommends to user {user_id}, in {elapsed:.1f} ms"
            _print_answer(console, title, answer, titles, later)
            if model == DEFAULT_MODEL and answer.item_ids:
                (why,) = client.explain([user_id], [answer.item_ids[0]], k=3)
                console.print(plain(_explained(why, titles)))
        (answer,) = client.recommend(["somebody new"], k=5)
        title = f"an unknown user (known_user = {answer.known_user}) gets the popular items"
        _print_answer(console, title, answer, titles)
        if features is not None:
            (answer,) = client.recommend_for_features([features.example()], k=5)
            _print_answer(console, f"a new user with {', '.join(features.example())} gets", answer, titles)
        (similar,) = client.similar_items([best_known[0]], k=5)
        _print_answer(console, f"similar to {name(best_known[0])}", similar, titles)


def _explained(why: Explanation, titles: dict[str, str]) -> str:
    """Say what of a user's history a recommendation comes from."""
    parts = [f"{titles.get(one) or one} {share:+.3f}" for one, share in zip(why.item_ids, why.shares)]
    others = why.score - float(sum(why.shares))
    name = titles.get(why.item_id) or why.item_id
    return f"why {name}, of the score {why.score:.3f}: {', '.join([*parts, f'all else {others:+.3f}'])}"


def _print_answer(
    console: Console,
    title: str,
    answer: Recommendation | SimilarItems,
    titles: dict[str, str],
    later: Container[str] | None = None,
) -> None:
    console.print()
    console.print(plain(title))
    table = Table()
    table.add_column("", justify="right")
    table.add_column("item")
    if titles:
        table.add_column("title")
    table.add_column("score", justify="right")
    if later is not None:
        table.add_column("in the test split")
    for rank, (score, item_id) in enumerate(zip(answer.scores, answer.item_ids), 1):
        row = [str(rank), item_id, *([titles.get(item_id, "")] if titles else []), f"{score:.3f}"]
        if later is not None:
            row.append("yes" if item_id in later else "")
        table.add_row(*map(plain, row))
    console.print(table)


def _closing(console: Console, out: Path, run: RunDirectory, seconds: float) -> None:
    console.print(f"\ndone in {seconds:.0f} s; the server is stopped. What there is now:")
    console.print(f"  {out}/serving/hqgnn, {out}/serving/hqgnn_scann   SavedModels, a folder per version")
    console.print(f"  {run.path}   the training run (config, history, TensorBoard)")
    for side, learnt in (("users", run.features.users), ("items", run.features.items)):
        if learnt is not None:
            console.print(plain(f"features of {side} that new ones are known by: {learnt.describe()}"))
    user = run.dataset.user_ids[0]
    console.print("what to try next:")
    console.print(f"  .venv/bin/tf-hqgnn explore {out}/serving   a page to look at: http://localhost:8600/explore")
    console.print(f"  .venv/bin/tf-hqgnn serve {out}/serving")
    console.print(f"  .venv/bin/tf-hqgnn recommend --server localhost:8500 --user {shlex.quote(printable(user))}")
    console.print(f"  .venv/bin/tf-hqgnn evaluate {run.path}")


if __name__ == "__main__":
    sys.exit(main())
