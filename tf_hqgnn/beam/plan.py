"""What a batch run is: its settings, what it was started on, and the folder where its finished shards wait."""

from __future__ import annotations

import hashlib
import json
import math
import posixpath
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

from tf_hqgnn.beam.places import find
from tf_hqgnn.beam.question import Question
from tf_hqgnn.beam.sinks import FORMATS, check_name, read_json, shard_path, write_bytes
from tf_hqgnn.beam.users import find_files, find_sources
from tf_hqgnn.data.id_list import read_id_list
from tf_hqgnn.data.input_file import input_parts, open_raw, paths_of
from tf_hqgnn.export.folder_kinds import not_a_version
from tf_hqgnn.export.layout import SAVED_MODEL_FILE, VARIABLES
from tf_hqgnn.queries.arrays import numbers_of
from tf_hqgnn.types import InputError

# Bounds of what a worker holds at a time: a shard's users, and its answers.
USERS_PER_SHARD = 50_000
ANSWERS_PER_SHARD = 5_000_000
_MAX_SHARDS = 100_000
_FEW_USERS = 1024

_PLAN = "plan.json"
_LISTS = ("exclude", "candidates", "category", "exclude_category")


@dataclass(frozen=True)
class Plan:
    """A batch run.

    Args:
      model: folder of the SavedModel.
      users: path or pattern of files, or "all".
      out: the name that the files are called after; its suffix is their format.
      k: answers of a user, at most.
      num_shards: output files.
      exclude: items that never come back.
      reject_unknown: whether users that the model doesn't know get no answer.
      batch_size: users of one call of the model; None for the best.
      tf_threads: of TensorFlow in a worker; None for all cores.
      inputs: `(path, bytes, time of change)` of the files of users.
      model_hash: of the SavedModel's graph and of the checksums of its variables.
      user_features: paths, separated by commas, of what is known of users that the model doesn't know; None for none.
      features_hash: of their content.
      candidates: items to choose from; none for the whole catalogue.
      allow_seen: whether items may come back that a user has seen.
      category: categories of which an item must have any; none for all items.
      exclude_category: categories of which an item must have none.
      diversity: as of the signature `recommend_where`.
      popularity: as of the signature `recommend_where`.
      histories: path of a log of new interactions, which count for their users; None for none.
      histories_hash: of its content.
      score: path of a log of pairs to score instead of recommending; None for none.
      score_hash: of its content.
      explain: path of a log of pairs to explain instead of recommending; None for none.
      explain_hash: of its content.
      similar_users: whether similar users are asked for instead of items.
    """

    model: str
    users: str
    out: str
    k: int
    num_shards: int
    exclude: tuple[str, ...]
    reject_unknown: bool
    batch_size: int | None
    tf_threads: int | None
    inputs: tuple[tuple[str, int, float], ...]
    model_hash: str
    user_features: str | None = None
    features_hash: str = ""
    candidates: tuple[str, ...] = ()
    allow_seen: bool = False
    category: tuple[str, ...] = ()
    exclude_category: tuple[str, ...] = ()
    diversity: float = 0.0
    popularity: float = 0.0
    histories: str | None = None
    histories_hash: str = ""
    score: str | None = None
    score_hash: str = ""
    explain: str | None = None
    explain_hash: str = ""
    similar_users: bool = False

    @property
    def question(self) -> Question:
        """Return the question that is asked about each user."""
        return Question(**{field.name: getattr(self, field.name) for field in fields(Question)})

    @property
    def suffix(self) -> str:
        """That of `out`: .parquet or .tfrecord."""
        return posixpath.splitext(self.out)[1]

    @property
    def folder(self) -> str:
        """Where the run's files are until all of it is done."""
        return self.out + ".partial"

    @property
    def report_path(self) -> str:
        """The last file to appear; once it is there, the output is complete."""
        return self.out + ".report.json"

    @property
    def rejected_path(self) -> str:
        """Rows without an answer, one JSON object a line; there is none if all rows have one."""
        return self.out + ".rejected.jsonl"

    @property
    def input_paths(self) -> list[str]:
        """The files of users; the model, if it is they who say it."""
        return [path for path, _, _ in self.inputs] or [self.model]

    def shard(self, number: int) -> str:
        """An output file, such as OUT-00000-of-00008.parquet."""
        return f"{posixpath.splitext(self.out)[0]}-{number:05d}-of-{self.num_shards:05d}{self.suffix}"

    def missing(self) -> frozenset[int]:
        """Shards that aren't done."""
        return frozenset(range(self.num_shards)) - self.done()

    def done(self) -> frozenset[int]:
        """Shards whose manifest is there."""
        pattern = shard_path(self.folder, 0)[:-5]
        names = (found.path for found in FileSystems.match([pattern + "*.json"])[0].metadata_list)
        return frozenset(int(match[1]) for name in names if (match := re.search(r"shard-(\d+)\.json$", name)))

    @staticmethod
    def load(folder: str) -> Plan:
        """That of a folder where it was saved."""
        values = read_json(FileSystems.join(folder, _PLAN))
        inputs = tuple((path, size, changed) for path, size, changed in values["inputs"])
        lists = {name: tuple(values[name]) for name in _LISTS if name in values}
        return Plan(**{**values, **lists, "inputs": inputs})

    def save(self) -> None:
        """Makes the folder, with the plan in it."""
        try:
            FileSystems.mkdirs(self.folder)
        except (BeamIOError, OSError) as error:
            if not FileSystems.exists(self.folder):
                raise InputError(f"--out {self.out}: {self.folder} can't be made: {error}") from error
        write_bytes(FileSystems.join(self.folder, _PLAN), json.dumps(asdict(self)).encode())


def make_plan(
    model: str,
    users: str,
    out: str,
    k: int = 10,
    exclude: Sequence[str] = (),
    num_shards: int | None = None,
    reject_unknown: bool = False,
    batch_size: int | None = None,
    tf_threads: int | None = None,
    user_features: str | None = None,
    candidates: Sequence[str] = (),
    allow_seen: bool = False,
    category: Sequence[str] = (),
    exclude_category: Sequence[str] = (),
    diversity: float = 0.0,
    popularity: float = 0.0,
    histories: str | None = None,
    score: str | None = None,
    explain: str | None = None,
    similar_users: bool = False,
) -> Plan:
    """A new run, or the one that was interrupted, if everything that its answers depend on is the same.

    Args are as `Plan`'s; `num_shards` None is one for 50,000 users or 5 million answers, at least 8 of 1,024 users.

    Raises:
      InputError: A setting can't be, an input can't be read, or the output or another run's part of it is there.
    """
    if posixpath.splitext(out)[1] not in FORMATS:
        raise InputError(f"--out {out}: expected a name that ends in {' or '.join(FORMATS)}")
    check_name("--out", out)
    is_plain = not (candidates or allow_seen or category or exclude_category or diversity or popularity)
    kinds = [one is not None for one in (histories, score, user_features, explain)] + [similar_users, not is_plain]
    if sum(kinds) > 1 or ((score is not None or explain is not None or similar_users) and exclude):
        raise InputError(
            "--score, --histories, --user-features and a choice of items (--candidates, --allow-seen, --category, "
            "--exclude-category, --diversity, --popularity), --explain and --similar-users are different questions: "
            "ask one of them; --exclude goes with recommendations alone"
        )
    for name, value in (("diversity", diversity), ("popularity", popularity)):
        numbers_of(name, value, 1)
    model = model.rstrip("/")
    model_hash = _hash_model(model)
    files = find_files(users)
    inputs = tuple((file.path, file.size_in_bytes, file.last_updated_in_seconds or 0.0) for file in files)
    _, num_users = find_sources(users, [path for path, _, _ in inputs], model)
    if num_shards is None:
        largest = min(USERS_PER_SHARD, max(1, ANSWERS_PER_SHARD // k))
        num_shards = max(math.ceil(num_users / largest), min(8, math.ceil(num_users / _FEW_USERS)), 1)
    if num_shards > _MAX_SHARDS:
        raise InputError(f"{num_shards:,} shards are too many, at most {_MAX_SHARDS:,}: lower -k, or set --shards")
    plan = Plan(
        model,
        users,
        out,
        k,
        num_shards,
        tuple(exclude),
        reject_unknown,
        batch_size,
        tf_threads,
        inputs,
        model_hash,
        user_features,
        _hash_files(user_features, "--user-features"),
        tuple(candidates),
        allow_seen,
        tuple(category),
        tuple(exclude_category),
        diversity,
        popularity,
        histories,
        _hash_files(histories, "--histories"),
        score,
        _hash_files(score, "--score"),
        explain,
        _hash_files(explain, "--explain"),
        similar_users,
    )
    _check_free(plan)
    if not FileSystems.exists(FileSystems.join(plan.folder, _PLAN)):
        return plan
    begun = Plan.load(plan.folder)
    if _answers_of(begun) != _answers_of(plan):
        changed = [name for name, value in _answers_of(plan).items() if _answers_of(begun)[name] != value]
        raise InputError(
            f"{plan.folder} holds the finished part of another run ({', '.join(changed)} differ): give the same "
            f"arguments to go on with it, or delete it"
        )
    return plan


def read_ids(path: Path, option: str = "--exclude") -> tuple[str, ...]:
    """The ids of a text file, one a line, or those of a table's column item_id.

    Args:
      path: the file.
      option: that names it, for messages.

    Raises:
      InputError: It can't be read, or isn't UTF-8.
    """
    return read_id_list(path, "item_id", option)


def _answers_of(plan: Plan) -> dict[str, object]:
    """All that the content of the output depends on; a model may have moved."""
    values = asdict(plan)
    others = ("model", "batch_size", "tf_threads", "user_features", "histories", "score", "explain")
    return {name: values[name] for name in values if name not in others}


def _check_free(plan: Plan) -> None:
    found = [plan.report_path] if FileSystems.exists(plan.report_path) else []
    if not found and not FileSystems.exists(FileSystems.join(plan.folder, _PLAN)):
        pattern = f"{posixpath.splitext(plan.out)[0]}-*-of-*{plan.suffix}"
        found = [metadata.path for metadata in find(pattern)]
    if found:
        raise InputError(
            f"--out {plan.out}: {found[0]} exists, and nothing is overwritten: delete it, or choose another"
        )


def _hash_files(paths: str | None, option: str) -> str:
    digest = hashlib.sha256()
    for path in () if paths is None else paths_of(paths):
        for part in input_parts(path, "files", option):
            with open_raw(part) as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
    return "" if paths is None else digest.hexdigest()


def _hash_model(model: str) -> str:
    digest = hashlib.sha256()
    for name in (SAVED_MODEL_FILE, f"{VARIABLES}.index"):
        try:
            with FileSystems.open(f"{model}/{name}", compression_type=CompressionTypes.UNCOMPRESSED) as file:
                digest.update(file.read())
        except (BeamIOError, OSError) as error:
            why = None if "://" in str(model) else not_a_version(Path(model), "--model ")
            raise InputError(why or f"--model {model}: not a SavedModel, which has a file {name}") from error
    return digest.hexdigest()
