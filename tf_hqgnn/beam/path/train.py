"""`tf-hqgnn train --runner=...`: from a log to a run directory by Beam jobs, from each of which a new run goes on."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

from tf_hqgnn.beam.flags import parse_flags
from tf_hqgnn.beam.path.assemble import check_fits, codes_of, dataset_of, gathered, tables_of
from tf_hqgnn.beam.path.evaluate import evaluate
from tf_hqgnn.beam.path.factorise import factorise
from tf_hqgnn.beam.path.log_files import find_log
from tf_hqgnn.beam.path.prepare import Prepared, Sizes, prepare
from tf_hqgnn.beam.path.recommend import check_recommendations, recommend
from tf_hqgnn.beam.path.rows import Served, make_tables, propagate_tables, serve_rows
from tf_hqgnn.beam.path.supported import check_supported
from tf_hqgnn.beam.path.work import Work
from tf_hqgnn.beam.places import for_workers, reach
from tf_hqgnn.config import Config
from tf_hqgnn.data.items import ItemCatalogue, read_items
from tf_hqgnn.data.report import ReadReport
from tf_hqgnn.data.splits import VALID
from tf_hqgnn.files.durable import make_folder, remove_staged, write_file
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.runs.run_directory import RunDirectory, partial_path
from tf_hqgnn.runs.tables import TrainedTables
from tf_hqgnn.runs.untrained import Untrained
from tf_hqgnn.training.advice import below_popularity
from tf_hqgnn.training.callbacks import TrainingState
from tf_hqgnn.training.features import LearntFeatures
from tf_hqgnn.training.making import MadeModel, save_model
from tf_hqgnn.training.run_folder import check_out, finish, marking_full_disk, run_lock
from tf_hqgnn.training.train import TrainResult, write_metrics
from tf_hqgnn.types import InputError

log = logging.getLogger(__name__)
# The steps' files while a run isn't finished, within its folder.
_WORK = "beam"
_FINGERPRINT = "data.sha256"


def train_on_beam(
    config: Config,
    out: Path,
    flags: Sequence[str],
    resume: bool = False,
    hooks: Sequence[Callable[[RunDirectory], None]] = (),
    say: Callable[[str], None] = print,
    told: Callable[[ReadReport], None] | None = None,
    sizes: Sizes | None = None,
    recommendations: str | None = None,
) -> TrainResult:
    """Makes the run directory of a log by Beam jobs, as `training.train.train` does in memory.

    Each step leaves its files in `OUT.partial/beam`; killed at any moment, the same call with `resume` goes on with the
    step that wasn't finished. The parts are put together at the end, in this machine's memory, to a run directory like
    any other.

    Args:
      config: all settings; see `check_supported`.
      out: the run directory; must not exist. Every worker must see its folder.
      flags: of Apache Beam.
      resume: go on from `OUT.partial` if it is there.
      hooks: called with the run before it gets its name.
      say: shows a line of progress.
      told: shows what became of the rows of the log; None for nothing.
      sizes: of what a worker holds; None for those by the log's size.
      recommendations: a folder for the `export.default_k` best items of all users; None for none.

    Raises:
      InputError: A setting isn't supported, the log or the settings can't be used, or a run is in the way.
      PipelineFailed: A worker failed, or the runner.
    """
    check_supported(config)
    options = parse_flags(flags)
    check_out(out, resume)
    if recommendations is not None:
        check_recommendations(reach("--recommendations", recommendations, is_output=True))
    began = time.monotonic()
    with run_lock(out), marking_full_disk(partial_path(out)):
        partial = _prepare_folder(config, out, resume)
        items = None if config.data.items_path is None else read_items(config.data.items_path, config.data.columns)
        if items is not None and items.available is not None:
            raise InputError(
                f"--runner: {config.data.items_path} has a column available, by which Beam jobs don't rank; leave it "
                "out, and exclude items in requests"
            )
        work = Work(_work_folder(options, partial), tuple(flags), say)
        prepared = prepare(work, config, sizes)
        if told is not None:
            told(prepared.report)
        factors = factorise(work, prepared, config.model, config.seed)
        filtered = make_tables(work, prepared, factors, config)
        propagated = propagate_tables(work, prepared, filtered, config.propagation)
        served = serve_rows(work, prepared, propagated, config.quantization)
        metrics = {}
        if prepared.targets[0]:
            ks = {*config.evaluation.k, 20, config.evaluation.monitor_k}
            metrics = evaluate(work, prepared, served, VALID, sorted(ks), config.evaluation.validation_users)
        if recommendations is not None:
            recommend(work, prepared, served, config.export.default_k, recommendations)
        check_fits(prepared, served.dim, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        _assemble(work, prepared, served, filtered, items, config, partial)
        values = {name: found.values for name, found in metrics.items()}
        result = TrainResult(
            run_dir=partial,
            epochs=0,
            best_epoch=0,
            seconds=round(time.monotonic() - began, 3),
            valid=values.get("served", {}),
            full_precision=values.get("full_precision"),
            popularity=values.get("popularity", {}),
        )
        warning = below_popularity(result.valid, result.popularity, config.evaluation.monitor, "validation")
        result = replace(result, warning=warning)
        write_metrics(result, partial)
        for hook in hooks:
            hook(RunDirectory.load(partial))
        FileSystems.delete([work.folder])
        finish(partial, out)
    return replace(result, run_dir=out)


def _work_folder(options: PipelineOptions, partial: Path) -> str:
    """Where the steps' files are: in the run's folder, or below `--temp_location` where that is in a store."""
    store = options.view_as(GoogleCloudOptions).temp_location or ""
    if "://" in store:
        return reach("--temp_location", f"{store.rstrip('/')}/{partial.name}", is_output=True)
    return for_workers(options, "--out", str(partial.absolute() / _WORK))


def _prepare_folder(config: Config, out: Path, resume: bool) -> Path:
    """Makes `OUT.partial`, or checks the one that is there, as `training.run_folder.prepare` does."""
    check_out(out, resume)
    partial = partial_path(out)
    files = [
        [file.path, file.size, Path(file.path).stat().st_mtime if "://" not in file.path else 0.0]
        for file in find_log(config.data)
    ]
    fingerprint = hashlib.sha256(json.dumps(["beam", files]).encode()).hexdigest()
    if (partial / _FINGERPRINT).is_file():
        remove_staged(partial)
        if Config.load(partial / "given.yaml") != config:
            raise InputError(
                f"{partial} was started with other settings (its given.yaml); resume with those, or delete it"
            )
        if (partial / _FINGERPRINT).read_text(encoding="utf-8") != fingerprint:
            raise InputError(
                f"{partial} was started on another log, on a log that has changed since, or without --runner; resume "
                "with the same command and log, or delete it"
            )
        return partial
    shutil.rmtree(partial, ignore_errors=True)
    make_folder(partial)
    write_file(partial / "given.yaml", config.to_yaml())
    write_file(partial / _FINGERPRINT, fingerprint)
    return partial


def _assemble(
    work: Work,
    prepared: Prepared,
    served: Served,
    tables: str,
    items: ItemCatalogue | None,
    config: Config,
    partial: Path,
) -> None:
    """Writes what a training leaves behind, from the parts."""
    dataset = dataset_of(work, prepared, items, f"{config.data.items_path}")
    dataset.save(partial / "data")
    graph = InteractionGraph.from_interactions(dataset.train, dataset.num_users, dataset.num_items, dataset.disliked)
    untrained = Untrained.of(graph)
    users, items_rows = gathered(served.blocks, served.dim, served.rows)
    model = MadeModel(
        config=config,
        users=users,
        items=items_rows,
        untrained=untrained,
        tables=TrainedTables.of(*tables_of(tables, served), untrained),
        coded=codes_of(served),
        state=TrainingState(),
        seconds=0.0,
        features=LearntFeatures(users, items_rows),
    )
    save_model(model, graph, partial)
