"""From the files of a log to blocks of a graph: what is read, kept, numbered and divided, as on one machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import apache_beam as beam

from tf_hqgnn.beam.blocks import Blocks
from tf_hqgnn.beam.path.core import one_round
from tf_hqgnn.beam.path.log_files import LogFile, find_log
from tf_hqgnn.beam.path.numbering import number
from tf_hqgnn.beam.path.parts import Rule, make_blocks
from tf_hqgnn.beam.path.read_log import ReadLog
from tf_hqgnn.beam.path.settle import Settle, check_rules
from tf_hqgnn.beam.path.sketch import cuts
from tf_hqgnn.beam.path.times import find_times
from tf_hqgnn.beam.path.work import Work, read_all
from tf_hqgnn.config import Config, DataConfig
from tf_hqgnn.data.anomalies import FileProfile, check_files, check_time_units
from tf_hqgnn.data.log_rules import LogRules
from tf_hqgnn.data.report import BadRowLog, BadRows, ReadReport
from tf_hqgnn.data.splits import check_shares, check_times
from tf_hqgnn.graph.truncated_svd import OVERSAMPLING
from tf_hqgnn.types import InputError

# Bytes of what is sent as one piece for a log of so many bytes, and at least.
_PIECE, _PIECE_LOG_BYTES, _LEAST_PIECE = 4 << 20, 27 * 10**8, 2 << 20
# A row takes as a message, not compressed, so many times the bytes of its text; and the end of a pair so many bytes.
_MESSAGE_SHARE, _END_BYTES = 2, 20


@dataclass(frozen=True)
class Sizes:
    """Limits of what one worker holds.

    Args:
      shard_bytes: text of the log in one shard of pairs, about.
      block_rows: users or items of a block, at most.
      block_edges: pairs that meet a block at a time, about.
    """

    shard_bytes: int
    block_rows: int
    block_edges: int

    @staticmethod
    def of(log_bytes: int, columns: int) -> Sizes:
        """Sizes by which all that a runner sends as one piece, such as a shard, takes about the same memory.

        An engine holds pieces as a whole, and a hundred at a time on their way to Python, so they should be small; but
        with pieces of one size their number grows with the log, and that of messages between them with its square.
        Hence the root: 2 MiB up to 25 million rows, 4 for 100 million, 40 for 10 billion. Rows of tables go through
        files instead, so a block has four times as much.

        Args:
          log_bytes: of the log as plain text.
          columns: of a row of a table, float32.

        Example:
          >>> Sizes.of(27 * 10**8, columns=64)
          Sizes(shard_bytes=2097152, block_rows=65536, block_edges=209715)
        """
        piece = max(_LEAST_PIECE, int(_PIECE * math.sqrt(log_bytes / _PIECE_LOG_BYTES)))
        return Sizes(piece // _MESSAGE_SHARE, max(1, piece // columns), piece // _END_BYTES)

    @property
    def piece_bytes(self) -> int:
        """Bytes of what a runner sends as one piece, about, before it is compressed."""
        return self.shard_bytes * _MESSAGE_SHARE


@dataclass(frozen=True)
class Prepared:
    """A log as blocks.

    Args:
      blocks: how users and items are cut.
      num_shards: of pairs, in `blocks/` and in `number/` of the folder.
      report: what became of every row.
      sizes: interactions of train, valid and test.
      weights: the least weight of a training interaction, the largest, and their sum.
      edges: the block and the part of each file of edges.
      targets: users with a validation interaction, and with one for testing.
      has_time: whether the log has timestamps.
      has_taken: whether what was taken isn't the same as all interactions.
    """

    blocks: Blocks
    num_shards: int
    report: ReadReport
    sizes: tuple[int, int, int]
    weights: tuple[float, float, float]
    edges: tuple[tuple[int, int], ...]
    targets: tuple[int, int]
    has_time: bool
    has_taken: bool

    @property
    def mean_weight(self) -> float | None:
        """By which weights are divided; None where all training interactions weigh the same."""
        low, high, total = self.weights
        return None if low == high else total / self.sizes[0]


def prepare(work: Work, config: Config, sizes: Sizes | None = None) -> Prepared:
    """Reads, validates, deduplicates, filters, numbers and divides a log.

    Ids are numbered in the order of their code points, and the split follows from the seed and the ids alone, so that
    the same log gives the same rows and the same parts as on one machine, whatever the workers.

    Args:
      work: where the files are.
      config: all settings.
      sizes: of what a worker holds; None for those by the log's size.

    Raises:
      InputError: As `load_dataset` raises it, for the same reasons.
    """
    data = config.data
    files = find_log(data)
    text_bytes = sum(file.text_bytes for file in files)
    sizes = sizes or Sizes.of(text_bytes, config.model.embedding_dim + OVERSAMPLING)
    read = _read(
        work,
        files,
        data,
        config.seed,
        num_shards=max(1, math.ceil(text_bytes / sizes.shard_bytes)),
    )
    # That of the run that read the log, where this one goes on from it.
    num_shards = len(read["shards"])
    pairs, found = work.path("read"), read["shards"]
    removed = 0
    for round_number in range(0 if data.k_core < 2 else 1 << 20):
        found = one_round(work, round_number, pairs, num_shards, data.k_core)
        pairs = work.path(f"core-{round_number}")
        removed += sum(shard["removed"] for shard in found)
        if not any(shard["removed"] for shard in found):
            break
    counts = [sum(shard[key] for shard in read["shards"]) for key in ("kept", "duplicate", "filtered")]
    kept = counts[0] - removed
    if not kept:
        raise InputError(
            f"{files[-1].path}: no interaction is left of {read['good']:,} rows; check data.min_rating, "
            "data.event_weights and data.k_core"
        )
    profiles = [FileProfile.from_json(profile) for profile in read["profiles"]]
    bad = {kind: BadRows(count, tuple(lines)) for kind, count, lines in read["bad"]}
    report = ReadReport(
        read["good"] + sum(rows.count for rows in bad.values()),
        kept,
        counts[1],
        counts[2] + removed,
        bad,
        tuple(profiles),
        unused=tuple(read["unused"]),
        last_time=max((one["last_time"] for one in read["shards"] if one["last_time"] is not None), default=None),
    )
    ranges = [cuts((shard[side] for shard in found), num_shards) for side in ("users", "items")]
    # As on one machine, where only an unfiltered table keeps who has nothing but dislikes.
    is_whole = not removed and not any(shard["is_cut"] for shard in read["shards"])
    num_users, num_items = number(work, pairs, work.path("read"), num_shards, ranges, is_whole)
    blocks = Blocks.choose(num_users, num_items, kept, sizes.block_rows, sizes.block_edges)
    rule = _rule(work, data, num_shards, kept, all("timestamp" in one.columns for one in profiles))
    made = make_blocks(work, work.path("number"), num_shards, blocks, rule)
    if not made["sizes"][0]:
        raise InputError("no interaction is left for training; check data.split and data.k_core")
    _check_temporal(rule, made["sizes"], kept)
    return Prepared(
        blocks,
        num_shards,
        report,
        tuple(made["sizes"]),
        tuple(made["weights"]),
        tuple((block, part) for block, part in made["edges"]),
        tuple(made["targets"]),
        all("timestamp" in one.columns for one in profiles),
        any(shard["has_taken"] for shard in read["shards"]),
    )


def _read(work: Work, files: list[LogFile], data: DataConfig, seed: int, num_shards: int) -> dict[str, Any]:
    rules = LogRules.of(data)

    def build(pipeline: beam.Pipeline, folder: str) -> None:
        read = (
            pipeline
            | "Files" >> beam.Create(files)
            | beam.Reshuffle()
            | "Read"
            >> beam.ParDo(ReadLog(rules.columns, data.format, num_shards, folder)).with_outputs(
                ReadLog.FILES, main="rows"
            )
        )
        every = pipeline | "EveryShard" >> beam.Create([(shard, b"") for shard in range(num_shards)])
        _ = (
            (read.rows, every)
            | beam.Flatten()
            | "ByPair" >> beam.GroupByKey()
            | "Settle" >> beam.ParDo(Settle(rules, seed, folder), beam.pvalue.AsList(read[ReadLog.FILES]))
        )

    def gather(folder: str) -> dict[str, Any]:
        found = read_all(folder, "file-")
        log = BadRowLog(data.max_bad_rows)
        for one in found:
            for kind, count, lines, example in one["bad"]:
                log.add_noted(one["file"]["path"], kind, BadRows(count, tuple(lines)), example)
            log.note_unused(one["unused"])
        good = sum(one["good"] for one in found)
        log.check(good)
        profiles: list[FileProfile] = []
        for part in sorted({file.part for file in files}):
            own = [one for one in found if one["file"]["part"] == part]
            days = _check_days(own, data)
            check_rules(LogRules.of(data), own)
            check_time_units([*profiles, *days])
            profiles += days
        return {
            "good": good,
            "bad": [[kind, rows.count, list(rows.first_lines)] for kind, rows in log.bad().items()],
            "unused": list(log.unused),
            "profiles": [profile.to_json() for profile in profiles],
            "shards": read_all(folder, "shard-"),
        }

    result: dict[str, Any] = work.run("read", build, gather)
    return result


def _check_days(found: Sequence[dict[str, Any]], data: DataConfig) -> list[FileProfile]:
    """The profile of each day of a log, whose files must be alike; raises InputError where they aren't."""
    days: list[FileProfile] = []
    for day in sorted({one["file"]["day"] for one in found}):
        own = [one for one in found if one["file"]["day"] == day]
        kinds = {one["kind"]: one["file"]["path"] for one in reversed(own)}
        if len(kinds) > 1:
            (one, path), (other, second) = list(kinds.items())[:2]
            raise InputError(f"{second}: read as {other}, but {path} as {one}; expected one format, or set data.format")
        parts = [FileProfile.from_json(one["profile"]) for one in own if one["profile"] is not None]
        if not parts:
            raise InputError(
                f"{own[0]['file']['path']}: no interactions in 0 rows (read as {', '.join(kinds)}); expected at least "
                "one good row"
            )
        for part in parts[1:]:
            check_files(part, parts[:1])
        check_time_units(parts)
        unit = next((part.time_unit for part in parts if part.time_unit is not None), None)
        name = parts[0].name if len(parts) == 1 else str(Path(parts[0].name).parent)
        rows = sum(part.rows for part in parts)
        is_last = day == max(one["file"]["day"] for one in found)
        profile = replace(parts[0], name=name, rows=rows, time_unit=unit)
        limits = (data.max_growth, data.max_id_drift) if is_last else (None, None)
        check_files(profile, days, *limits)
        days.append(profile)
    return days


def _rule(work: Work, data: DataConfig, num_shards: int, kept: int, has_time: bool) -> Rule:
    split = data.split
    if data.path is None:
        if data.valid_path is None and data.k_core > 1:
            raise InputError(
                "data.k_core with data.train_path needs data.valid_path on Beam; name it, or set data.k_core=0"
            )
        return Rule("given", split.valid if data.valid_path is None else 0.0)
    if split.method != "leave_last_out":
        check_shares(split.valid, split.test)
    check_times(split.method, has_time)
    if split.method != "temporal":
        return Rule(split.method, split.valid, split.test)
    num_valid, num_test = int(split.valid * kept), int(split.test * kept)
    num_train = kept - num_test - num_valid
    times = find_times(work, work.path("number"), num_shards, (num_train - 1, num_train + num_valid - 1))
    return Rule("temporal", split.valid, split.test, (times[0], times[1]))


def _check_temporal(rule: Rule, sizes: Sequence[int], kept: int) -> None:
    for name, size, share in zip(("valid", "test"), sizes[1:], (rule.valid, rule.test)):
        if rule.method == "temporal" and share > 0 and not size:
            raise InputError(
                f"data.split.method=temporal: no interaction is late enough for {name} (a share of {share:g} of "
                f"{kept:,}); use random or leave_last_out"
            )
