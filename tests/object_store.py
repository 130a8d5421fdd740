"""An S3 server on loopback, and what Kubeflow's launcher does with its buckets."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

from pyarrow import fs

ROOT = Path(__file__).resolve().parents[1]
PYTHON = ROOT / ".venv-s3" / "bin" / "python"
KEYS = {"AWS_ACCESS_KEY_ID": "loopback", "AWS_SECRET_ACCESS_KEY": "loopback", "AWS_REGION": "us-east-1"}


class ObjectStore:
    """moto's server with one bucket, in memory.

    Args:
      bucket: its name.
      log: the file that its requests are written to.

    Attributes:
      endpoint: address of the server, as AWS_ENDPOINT_URL names it.
      files: pyarrow's file system of it.
    """

    def __init__(self, bucket: str, log: Path) -> None:
        assert PYTHON.exists(), f"{PYTHON} is missing: `make .venv-s3/.installed` makes it"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self.endpoint = f"http://{address}"
        host, port = address.split(":")
        with log.open("w") as file:
            self._process = subprocess.Popen(
                [PYTHON, "-m", "moto.server", "-H", host, "-p", port], stdout=file, stderr=file, env=KEYS
            )
        while True:
            assert self._process.poll() is None, log.read_text()
            try:
                socket.create_connection((host, int(port))).close()
                break
            except OSError:
                time.sleep(0.05)
        self.files = fs.S3FileSystem(
            access_key=KEYS["AWS_ACCESS_KEY_ID"],
            secret_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            region=KEYS["AWS_REGION"],
            scheme="http",
            endpoint_override=address,
            allow_bucket_creation=True,
        )
        self.files.create_dir(bucket)

    def __enter__(self) -> ObjectStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def upload(self, path: Path, uri: str) -> None:
        """Copies a file, or the files of a folder, to objects; empty folders have none.

        Raises:
          FileNotFoundError: there is neither.
        """
        if not path.exists():
            raise FileNotFoundError(path)
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                key = f"{_key(uri)}/{file.relative_to(path)}" if path.is_dir() else _key(uri)
                with file.open("rb") as source, self.files.open_output_stream(key) as target:
                    shutil.copyfileobj(source, target)

    def download(self, uri: str, path: Path) -> None:
        """Copies an object, or those below it, to files; without any, nothing is made and nothing is said."""
        for key in self.keys(uri):
            file = path / key.removeprefix(_key(uri)).lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            with self.files.open_input_stream(key) as source, file.open("wb") as target:
                shutil.copyfileobj(source, target)

    def keys(self, uri: str) -> list[str]:
        """The object of an URI, or those below it, each with its bucket."""
        found = self.files.get_file_info(_key(uri))
        if found.type == fs.FileType.Directory:
            selected = self.files.get_file_info(fs.FileSelector(_key(uri), recursive=True))
            return sorted(info.path for info in selected if info.type == fs.FileType.File)
        return [found.path] if found.type == fs.FileType.File else []


def _key(uri: str) -> str:
    scheme, _, key = uri.partition("://")
    assert scheme == "s3", uri
    return key
