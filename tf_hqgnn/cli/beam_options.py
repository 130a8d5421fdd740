"""Commands that run as Apache Beam jobs where a runner is named, and then take Beam's own options, too."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from tf_hqgnn.beam.quiet import quieten_beam
from tf_hqgnn.cli.output import print_progress
from tf_hqgnn.cli.terminal import printable
from tf_hqgnn.extras import require
from tf_hqgnn.files.failures import explain_failure

if TYPE_CHECKING:
    from tf_hqgnn.config import Config
    from tf_hqgnn.training.train import TrainResult


class BeamCommand(TyperCommand):
    """A command that lets unknown options pass, and hands on `--` with what follows it, which click would drop."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See click."""
        ctx.allow_extra_args = ctx.ignore_unknown_options = True
        where = args.index("--") if "--" in args else len(args)
        super().parse_args(ctx, args[:where])
        ctx.args = [*ctx.args, *args[where:]]
        return list(ctx.args)


class WithBeamOptions(BeamCommand):
    """A `BeamCommand` where `--runner` is among its options; without it, unknown options are refused."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See click."""
        if any(arg.split("=")[0] == "--runner" for arg in args):
            return super().parse_args(ctx, args)
        return TyperCommand.parse_args(self, ctx, args)


def train_by_runner(
    settings: Config, out: Path, flags: Sequence[str], resume: bool, recommendations: str | None
) -> TrainResult:
    """Trains by Beam jobs, which needs the extra `beam`; a failure of the runner ends the command with exit code 1."""
    require("beam", "train --runner")
    quieten_beam()
    from tf_hqgnn.beam.path.train import train_on_beam
    from tf_hqgnn.beam.running import PipelineFailed
    from tf_hqgnn.cli.run_output import print_read
    from tf_hqgnn.report.page import report_hook

    try:
        hooks = (report_hook,)
        return train_on_beam(
            settings, out, flags, resume, hooks, print_progress, print_read, recommendations=recommendations
        )
    except PipelineFailed as error:
        reason = explain_failure(error) or f"{error}; what is done is kept, and the command goes on with --resume"
        print(f"tf-hqgnn: {printable(reason)}", file=sys.stderr)
        raise typer.Exit(1) from error


def print_plan(settings: Config) -> None:
    """Prints what Beam jobs will take for the log of the settings, and for larger ones; runs nothing."""
    require("beam", "train --plan")
    quieten_beam()
    from tf_hqgnn.beam.path.estimate import plan_lines
    from tf_hqgnn.beam.path.log_files import find_log
    from tf_hqgnn.beam.path.supported import check_supported

    check_supported(settings)
    for line in plan_lines(settings, sum(file.text_bytes for file in find_log(settings.data))):
        print(line)
