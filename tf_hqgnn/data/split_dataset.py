"""What a model is trained, validated and tested on, as one object that can be saved."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tf_hqgnn.data.feature_table import FeatureTable
from tf_hqgnn.data.pairs import pairs_of_all
from tf_hqgnn.data.parquet_file import read_parquet_table
from tf_hqgnn.data.report import ReadReport
from tf_hqgnn.graph.csr import CSR
from tf_hqgnn.types import Array, BoolArray, InputError, Interactions, ObjectArray, concatenate

_PARTS = ("train", "valid", "test")
# Written only where they are there, which runs of version 0.1 don't know of.
_SETS = ("disliked", "taken")
_FEATURES = ("user_features", "item_features")


@dataclass(frozen=True)
class SplitDataset:
    """Users, items and their interactions in three disjoint parts.

    Args:
      user_ids: object [U] of str, sorted by code point.
      item_ids: object [I] of str, sorted by code point.
      train: interactions to learn from.
      valid: interactions to choose by.
      test: interactions to report on.
      titles: object [I] of str, "" where an item has none; or None.
      categories: object [I] of str, "" for an item without one; or None.
      available: bool [I], or None.
      report: what became of every row read.
      disliked: pairs that users disliked, none of which is in a part; None where there is none.
      taken: pairs that never come back to their users, dislikes included; None for every pair of the parts and every
        dislike.
      user_features: what is known of the users, in the order of `user_ids`; None where nothing is.
      item_features: features of items; or None.

    Example:
    >>> import tempfile
    >>> import numpy as np
    >>> ids = np.array(["a", "b"], object)
    >>> pair = Interactions(np.array([1], np.int32), np.array([0], np.int32))
    >>> nothing = pair.take(np.array([], int))
    >>> dataset = SplitDataset(ids, ids, train=pair, valid=nothing, test=nothing)
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     dataset.save(directory)
    ...     SplitDataset.load(directory).train.user_index.tolist()
    [1]
    """

    user_ids: ObjectArray
    item_ids: ObjectArray
    train: Interactions
    valid: Interactions
    test: Interactions
    titles: ObjectArray | None = None
    categories: ObjectArray | None = None
    available: BoolArray | None = None
    report: ReadReport = field(default_factory=lambda: ReadReport(0, 0, 0, 0))
    disliked: Interactions | None = None
    taken: Interactions | None = None
    user_features: FeatureTable | None = None
    item_features: FeatureTable | None = None

    def __post_init__(self) -> None:
        for name in ("titles", "categories", "available"):
            values = getattr(self, name)
            if values is not None and len(values) != self.num_items:
                raise ValueError(f"{name}: {len(values)} values for {self.num_items} items; expected one an item")

    @property
    def num_users(self) -> int:
        """U, those without training interactions included."""
        return len(self.user_ids)

    @property
    def num_items(self) -> int:
        """I, those without training interactions included."""
        return len(self.item_ids)

    def history(self) -> Interactions:
        """The distinct pairs that never come back in answers: what was taken, in whichever part, and disliked."""
        pairs = (self.train, self.valid, self.test) if self.taken is None else (self.taken,)
        return self._with_dislikes(*pairs)

    def masked(self, *parts: Interactions) -> CSR:
        """What isn't ranked where a part is held out: the items of each user in other parts, and what it disliked.

        Args:
          *parts: those that are known, such as `train`.
        """
        return self._with_dislikes(*parts).to_csr(self.num_users)

    def _with_dislikes(self, *parts: Interactions) -> Interactions:
        if self.disliked is None:
            # The parts have no pair in common: nothing has to be sorted, which takes long in a large log.
            return concatenate(*(Interactions(part.user_index, part.item_index) for part in parts))
        return pairs_of_all(*parts, self.disliked)

    def fingerprint(self) -> str:
        """A digest of the ids and of the pairs of every part: equal data, equal fingerprint."""
        digest = hashlib.sha256()
        for ids in (self.user_ids, self.item_ids):
            digest.update("\x00".join(ids).encode())
        for part in (self.train, self.valid, self.test):
            digest.update(part.user_index.tobytes())
            digest.update(part.item_index.tobytes())
            if part.weight is not None:
                digest.update(part.weight.tobytes())
        for name in _SETS:
            pairs: Interactions | None = getattr(self, name)
            if pairs is not None:
                digest.update(name.encode() + pairs.user_index.tobytes() + pairs.item_index.tobytes())
        for name in _FEATURES:
            features: FeatureTable | None = getattr(self, name)
            if features is not None:
                digest.update("\x00".join([name, *features.columns, *features.pairs().ravel()]).encode())
        return digest.hexdigest()

    def save(self, directory: str | Path) -> None:
        """Writes Parquet files and `report.json` into `directory`, which is made if need be."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        items = {"item_id": pa.array(self.item_ids, pa.utf8())}
        if self.titles is not None:
            items["title"] = pa.array(self.titles, pa.utf8())
        if self.categories is not None:
            items["category"] = pa.array(self.categories, pa.utf8())
        if self.available is not None:
            items["available"] = pa.array(self.available)
        pq.write_table(pa.table({"user_id": pa.array(self.user_ids, pa.utf8())}), directory / "users.parquet")
        pq.write_table(pa.table(items), directory / "items.parquet")
        for name in (*_PARTS, *_SETS):
            part: Interactions | None = getattr(self, name)
            if part is None:
                continue
            columns: dict[str, Array] = {"user_index": part.user_index, "item_index": part.item_index}
            for column in ("timestamp", "weight"):
                if (values := getattr(part, column)) is not None:
                    columns[column] = values
            pq.write_table(pa.table(columns), directory / f"{name}.parquet")
        for name in _FEATURES:
            features: FeatureTable | None = getattr(self, name)
            if features is not None:
                features.save(directory / f"{name}.parquet")
        (directory / "report.json").write_text(json.dumps(self.report.to_json(), indent=2) + "\n", encoding="utf-8")

    @staticmethod
    def load(directory: str | Path) -> SplitDataset:
        """Reads what `save` wrote.

        Raises:
          InputError: The directory doesn't hold a complete dataset.
        """
        directory = Path(directory)
        try:
            users = read_parquet_table(directory / "users.parquet")
            items = read_parquet_table(directory / "items.parquet")
            train, valid, test = (_load_part(directory / f"{name}.parquet") for name in _PARTS)
            sets = {name: directory / f"{name}.parquet" for name in _SETS}
            pairs = {name: _load_part(path) for name, path in sets.items() if path.is_file()}
            known = {name: directory / f"{name}.parquet" for name in _FEATURES}
            features = {name: FeatureTable.load(path) for name, path in known.items() if path.is_file()}
            report = ReadReport.from_json(json.loads((directory / "report.json").read_text(encoding="utf-8")))
        except (OSError, InputError, json.JSONDecodeError) as error:
            raise InputError(
                f"{directory}: not a saved dataset ({' '.join(str(error).split())}); expected users, items, train, "
                "valid and test as .parquet and report.json, as SplitDataset.save writes them"
            ) from error
        columns = {name: items[name].to_numpy() for name in items.column_names}
        return SplitDataset(
            users["user_id"].to_numpy(),
            columns["item_id"],
            train,
            valid,
            test,
            columns.get("title"),
            columns.get("category"),
            columns.get("available"),
            report,
            pairs.get("disliked"),
            pairs.get("taken"),
            features.get("user_features"),
            features.get("item_features"),
        )


def _load_part(path: Path) -> Interactions:
    table = read_parquet_table(path)
    columns = {name: table[name].to_numpy() for name in table.column_names}
    return Interactions(columns["user_index"], columns["item_index"], columns.get("timestamp"), columns.get("weight"))
