"""The commands that write versions of a model for a server: `export` and `add-items`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tf_hqgnn.cli.source_options import RunArgument
from tf_hqgnn.types import InputError


def export(
    run_dir: RunArgument,
    out: Annotated[
        Path,
        typer.Option(
            metavar="EXPORT_DIR",
            help="Folder to write the models hqgnn and hqgnn_scann to.",
        ),
    ],
    version: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of the version; by default the next free one.",
        ),
    ] = None,
    shards: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of models to cut hqgnn into, each with all users and a part of the items, for servers that "
            "can't hold all items. `recommend` asks all of them.",
        ),
    ] = None,
) -> None:
    """Export a run as SavedModels for TF Serving: hqgnn searches exactly, hqgnn_scann by an index."""
    from tf_hqgnn.export.layout import MODEL_NAMES, read_metadata, version_path
    from tf_hqgnn.export.of_runs import bundle_of, export_run
    from tf_hqgnn.runs.run_directory import RunDirectory

    run = RunDirectory.load(run_dir)
    if shards is not None:
        from tf_hqgnn.export.shard_manifest import manifest_path
        from tf_hqgnn.export.sharded import export_shards

        manifest = export_shards(lambda: bundle_of(run), out, run.config.export, shards, version)
        first, last = manifest.shards[0].name, manifest.shards[-1].name
        print(
            f"version {manifest.version} in {out}: {manifest.num_items:,} items in {first} to {last} (exact), listed "
            f"in {manifest_path(out, manifest.version).name}"
        )
        return
    number = export_run(run, out, version)
    kinds = {name: read_metadata(version_path(out, name, number))["exact"] for name in MODEL_NAMES}
    models = ", ".join(f"{name} ({'exact' if exact else 'approximate'})" for name, exact in kinds.items())
    print(f"version {number} in {out}: {models}")


def add_items(
    export: Annotated[
        Path,
        typer.Option(
            metavar="EXPORT_DIR",
            help="Folder that `export` wrote; gets the new version.",
        ),
    ],
    interactions: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Log with the first interactions of the new items.")
    ] = None,
    items: Annotated[
        str | None,
        typer.Option(
            metavar="FILE[,FILE]",
            help="File of items with their categories, availability and features. Features can replace interactions. "
            "Known items are withdrawn, or return, by its column available.",
        ),
    ] = None,
) -> None:
    """Add new items to an exported model without training, withdraw others, and write it as a new version.

    Rows of known users and items stay as they are, and so do the partitions of a ScaNN index, which makes this a matter
    of seconds. A model is a program: add items only to a model that you trust.
    """
    if interactions is None and items is None:
        raise InputError(
            "nothing to add: pass --interactions FILE, or --items FILE with features or availability, or both"
        )
    from tf_hqgnn.export.new_items import add_items

    added = add_items(export, interactions, items)
    print(
        f"version {added.version} in {export}: {added.num_added:,} items added ({added.num_by_features:,} by features "
        f"alone), {added.num_updated:,} known ones updated, {added.num_withdrawn:,} withdrawn, {added.num_returned:,} "
        f"returned; {added.num_skipped:,} new items skipped (no interaction of a known user, nor a known feature), "
        f"{added.num_unknown_users:,} unknown users ignored"
    )
