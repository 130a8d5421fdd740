"""The names of the shards of a model, and the manifest that lists them. Needs no TensorFlow.

A shard is a model of its own, `EXPORT_DIR/hqgnn-00000-of-00004/<version>`, with all users and a range of the items. The
manifest `EXPORT_DIR/hqgnn-shards-<version>.json` is written last: a version that has one is complete.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from tf_hqgnn.export.layout import DEFAULT_MODEL, EXACT_MODEL
from tf_hqgnn.files.durable import write_file
from tf_hqgnn.files.reading import read_json
from tf_hqgnn.types import InputError

# What a shard answers: what can be put together from the answers of all shards, and what any of them knows.
SHARD_SIGNATURES = (
    "serving_default",
    "recommend",
    "recommend_where",
    "rerank",
    "score",
    "similar_users",
    "embed_user",
    "tf_example",
)
_NAME = re.compile(rf"{EXACT_MODEL}-\d{{5}}-of-\d{{5}}")


@dataclass(frozen=True)
class Shard:
    """The items of one shard: those from `first_item` on, in the order of the model's rows.

    Args:
      name: of the shard's model.
      first_item: the row of its first item in the whole model.
      num_items: how many it has.
    """

    name: str
    first_item: int
    num_items: int


@dataclass(frozen=True)
class ShardManifest:
    """The shards of one version of a model.

    Args:
      version: its number, the same in every shard.
      num_items: of all shards.
      shards: in the order of their items.
    """

    version: int
    num_items: int
    shards: tuple[Shard, ...]

    @staticmethod
    def cut(version: int, num_items: int, num_shards: int) -> ShardManifest:
        """Cuts a model into shards of about the same number of items.

        Raises:
          InputError: There are fewer items than shards.

        Example:
          >>> [(shard.name, shard.first_item, shard.num_items) for shard in ShardManifest.cut(1, 5, 2).shards]
          [('hqgnn-00000-of-00002', 0, 2), ('hqgnn-00001-of-00002', 2, 3)]
        """
        if not 1 <= num_shards <= num_items:
            raise InputError(
                f"--shards {num_shards}: the model has {num_items:,} items; expected from 1 to that number"
            )
        starts = [number * num_items // num_shards for number in range(num_shards + 1)]
        names = shard_names(num_shards)
        shards = [Shard(name, start, end - start) for name, start, end in zip(names, starts, starts[1:])]
        return ShardManifest(version, num_items, tuple(shards))

    def save(self, export_dir: Path) -> None:
        """Writes the manifest into the folder of the shards."""
        write_file(manifest_path(export_dir, self.version), json.dumps(asdict(self), indent=2) + "\n")

    @staticmethod
    def load(path: Path) -> ShardManifest:
        """Reads a manifest.

        Raises:
          InputError: It isn't there, or is damaged.
        """
        cure = "export the run again"
        if not path.is_file():
            raise InputError(f"{path}: no such file; expected a manifest of `tf-hqgnn export --shards N`")
        values = read_json(path, cure=cure)
        try:
            shards = tuple(Shard(**one) for one in values["shards"])
            manifest = ShardManifest(int(values["version"]), int(values["num_items"]), shards)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: not a manifest of shards ({error!r}); {cure}") from error
        if not shards:
            raise InputError(f"{path}: names no shard; {cure}")
        return manifest


def shard_names(num_shards: int, model: str = DEFAULT_MODEL) -> list[str]:
    """The names of the models that a model is cut into.

    Example:
      >>> shard_names(2)
      ['hqgnn-00000-of-00002', 'hqgnn-00001-of-00002']
    """
    return [f"{model}-{number:05d}-of-{num_shards:05d}" for number in range(num_shards)]


def manifest_path(export_dir: Path, version: int) -> Path:
    """Where the manifest of a version is."""
    return Path(export_dir) / f"{EXACT_MODEL}-shards-{version}.json"


def shard_folders(export_dir: Path) -> list[Path]:
    """The folders of all shards in an export, of whatever number of shards, sorted."""
    if not Path(export_dir).is_dir():
        return []
    return sorted(folder for folder in Path(export_dir).iterdir() if folder.is_dir() and _NAME.fullmatch(folder.name))
