"""The users and items of a version of a model, without their embeddings: ids, titles, histories."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tf_hqgnn.export.layout import EXTRA_FILES, ITEM_IDS, USER_IDS
from tf_hqgnn.export.stored import StoredModel
from tf_hqgnn.types import BoolArray, Float32Array, InputError, Int32Array, Int64Array, ObjectArray

TITLES_FILE = Path(EXTRA_FILES) / "items.parquet"


@dataclass(frozen=True, eq=False)
class Contents:
    """The users and items of a model.

    Args:
      user_ids: object [U] of str.
      item_ids: object [N] of str.
      seen: `(indptr, indices)`, int64 [U + 1] and int32 [nnz]: the items that never come back to each user.
      item_popularity: float32 [N]; older exports hold 0 for items that aren't available.
      item_categories: object [N] of str, separated by `|`, "" for an item without one; None if none has one. Older
        exports hold none of items that aren't available.
      item_available: bool [N]; None if all are available.
      item_titles: object [N] of str, "" for an item without one; None if none has one.
      known_users: bool [U], False for users who are answered as an unknown user is; None if all are known.
      learnt: as `seen`, the items that each user's row was learnt from; None for all that it has seen.
    """

    user_ids: ObjectArray
    item_ids: ObjectArray
    seen: tuple[Int64Array, Int32Array]
    item_popularity: Float32Array
    item_categories: ObjectArray | None
    item_available: BoolArray | None
    item_titles: ObjectArray | None
    known_users: BoolArray | None
    learnt: tuple[Int64Array, Int32Array] | None = None


def read_contents(version_dir: Path, stored: StoredModel | None = None) -> Contents:
    """Read the users and items of a version of a model.

    Args:
      version_dir: a version of `hqgnn` or `hqgnn_scann`; those of version 0.1 are read, too.
      stored: its variables, if they are open already.

    Raises:
      InputError: It isn't a version of an export, lacks a variable, or its file of titles is damaged.
    """
    stored = stored or StoredModel(version_dir)
    item_ids = _ids(stored, ITEM_IDS)
    if "popular/by_item" in stored:
        popularity = stored.read("popular/by_item")
    else:
        # Exports without the signature `rerank` hold it in the order of popularity.
        popularity = np.zeros(len(item_ids), np.float32)
        popularity[stored.read("popular/order")] = stored.read("popular/popularity")
    categories, available = _filter(stored)
    return Contents(
        user_ids=_ids(stored, USER_IDS),
        item_ids=item_ids,
        seen=(stored.read("seen/indptr"), stored.read("seen/indices")),
        item_popularity=popularity,
        item_categories=categories if categories.any() else None,
        item_available=None if available.all() else available,
        item_titles=_read_titles(Path(version_dir), item_ids),
        known_users=stored.read("known_users") > 0 if "known_users" in stored else None,
        learnt=((stored.read("learnt/indptr"), stored.read("learnt/indices")) if "learnt/indptr" in stored else None),
    )


def write_titles(version_dir: Path, item_ids: ObjectArray, titles: ObjectArray) -> None:
    """Write the titles of items beside a SavedModel, as `assets.extra/items.parquet`.

    Args:
      version_dir: the folder of the SavedModel.
      item_ids: object [N] of str.
      titles: object [N] of str, "" for an item without one.
    """
    path = version_dir / TITLES_FILE
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({"item_id": pa.array(item_ids, pa.utf8()), "title": pa.array(titles, pa.utf8())}), path)


def _read_titles(version_dir: Path, item_ids: ObjectArray) -> ObjectArray | None:
    path = version_dir / TITLES_FILE
    if not path.exists():
        return None
    try:
        table = pq.read_table(path, columns=["item_id", "title"])
        ids: ObjectArray = table["item_id"].to_numpy()
        texts: ObjectArray = table["title"].to_numpy()
        if np.array_equal(ids, item_ids) and not table["title"].null_count:
            return texts
        titles = dict(zip(ids, texts))
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: the titles of the items can't be read: {reason}; export the run again") from error
    return np.array([titles.get(item_id) or "" for item_id in item_ids], object)


def _filter(stored: StoredModel) -> tuple[ObjectArray, BoolArray]:
    """The categories of items, "" for one without, and whether they are available."""
    names, codes = _ids(stored, "item_filter/names/keys"), stored.read("item_filter/codes")
    if "item_filter/members" in stored:
        texts = ["|".join(names[row[row < len(names)]]) for row in stored.read("item_filter/members")]
    else:
        # Exports whose items have one category at most: a code is the place of its name.
        texts = list(names)
    of_code = np.array([*texts, ""], object)
    # Below -1 are those of items that aren't available; -1 is all that older exports say of these.
    place = np.where(codes < 0, -2 - codes, codes)
    return of_code[np.where((place >= 0) & (place < len(texts)), place, len(texts))], codes >= 0


def _ids(stored: StoredModel, path: str) -> ObjectArray:
    return np.array([value.decode("utf-8") for value in stored.read(path)], object)
