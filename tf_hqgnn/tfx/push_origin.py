"""Where a pushed version comes from, kept in the version itself, so that a push that is tried again is recognised.

A Pusher that fails after its push, or is killed in it, is started again: by Kubeflow's retries, or by whoever gives the
killed run again. Without a record in the version it would push the same models as another version.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tf_hqgnn.export.layout import EXTRA_FILES
from tf_hqgnn.export.versions import versions

# In a SavedModel's folder for what isn't TensorFlow's; servers don't look at it.
_FILE = Path(EXTRA_FILES) / "push.json"
_BLOCK = 1 << 20


@dataclass(frozen=True)
class PushOrigin:
    """What one push is made from.

    Args:
      artifacts: name of a model -> URI of its artifact.
      digest: of the content of all models, since a URI is used again after its folder was deleted.
      blessing: URI of the verdict that allows the push; each run makes its own.
    """

    artifacts: Mapping[str, str]
    digest: str
    blessing: str

    @staticmethod
    def of(models: Mapping[str, Path], artifacts: Mapping[str, str], blessing: str) -> PushOrigin:
        """Reads the models' files to tell their content.

        Args:
          models: name of a model -> folder of its SavedModel.
          artifacts: name of a model -> URI of its artifact.
          blessing: URI of the verdict.
        """
        digest = hashlib.sha256()
        for name, folder in sorted(models.items()):
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                digest.update(f"{name}/{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
                with path.open("rb") as file:
                    while block := file.read(_BLOCK):
                        digest.update(block)
        return PushOrigin(dict(artifacts), digest.hexdigest(), blessing)

    def write(self, version_dir: Path) -> None:
        """Puts the record into a version that isn't visible yet."""
        path = version_dir / _FILE
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False), encoding="utf-8")

    def earlier_push(self, model_dirs: Sequence[Path]) -> int | None:
        """The version under which these models were pushed before, perhaps one of them only; None if they weren't.

        That is the newest version of all if it holds these models, or an older one that the same verdict allowed. A
        newer run may bring an older model back: its verdict is another one, and it pushes.

        Args:
          model_dirs: the folders with the models' versions.
        """
        numbers = sorted({number for folder in model_dirs for number in versions(folder)}, reverse=True)
        for number in numbers:
            found = [_read(folder / str(number)) for folder in model_dirs]
            known = [origin for origin in found if origin is not None]
            same = [
                (origin.artifacts, origin.digest) == (dict(self.artifacts), self.digest)
                and (number == numbers[0] or origin.blessing == self.blessing)
                for origin in known
            ]
            if same and all(same):
                return number
        return None


def _read(version_dir: Path) -> PushOrigin | None:
    """The record of a version; None where there is none, as in versions that were not pushed by a pipeline."""
    try:
        return PushOrigin(**json.loads((version_dir / _FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
