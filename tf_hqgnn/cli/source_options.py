"""The options by which a command says what it is about: a run, a server or a SavedModel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tf_hqgnn.export.folder_kinds import not_a_version
from tf_hqgnn.types import InputError

if TYPE_CHECKING:
    from tf_hqgnn.serving.client import Client, LocalModel
    from tf_hqgnn.serving.sharded import ShardedClient

RunArgument = Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A finished run of `tf-hqgnn train`.")]
ServerOption = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT[,..]",
        help="Server to ask, by gRPC; those of all shards, if the model was exported in shards.",
    ),
]
ManifestOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Manifest of the shards, as export wrote it; without it, each server of --server has one shard.",
    ),
]
ModelOption = Annotated[
    Path | None,
    typer.Option(
        metavar="SAVED_MODEL",
        help="Version of a model to load and ask, such as EXPORT_DIR/hqgnn/1.",
    ),
]
CaFileOption = Annotated[
    Path | None, typer.Option(metavar="PEM", help="Call --server over TLS and trust this certificate authority.")
]
CertFileOption = Annotated[
    Path | None, typer.Option(metavar="PEM", help="Client certificate for --server (mutual TLS).")
]
KeyFileOption = Annotated[Path | None, typer.Option(metavar="PEM", help="Private key of --cert-file.")]
ServerNameOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Name in the certificate of --server, if it isn't the one in the address.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
TitlesOption = Annotated[Path | None, typer.Option(metavar="ITEMS.csv", help="File of items whose titles are shown.")]


@dataclass(frozen=True)
class Source:
    """Where answers come from, as the options say.

    Args:
      server: of `--server`.
      model: of `--model`.
      ca_file: of `--ca-file`.
      cert_file: of `--cert-file`.
      key_file: of `--key-file`.
      server_name: of `--server-name`.
      manifest: of `--manifest`.

    Raises:
      InputError: Neither a server nor a model is named, or both are, or a manifest goes with a model.
    """

    server: str | None
    model: Path | None
    ca_file: Path | None
    cert_file: Path | None
    key_file: Path | None
    server_name: str | None
    manifest: Path | None = None

    def __post_init__(self) -> None:
        if (self.server is None) == (self.model is None):
            raise InputError("pass exactly one of --server HOST:PORT or --model SAVED_MODEL")
        if self.manifest is not None and self.server is None:
            raise InputError("--manifest names shards, which servers have: pass --server HOST:PORT,.. with it")

    def open(self) -> Client | LocalModel | ShardedClient:
        """Return a client of the server or of all shards, or the loaded model; each is a context manager."""
        from tf_hqgnn.serving.client import ClientTls, LocalModel
        from tf_hqgnn.serving.sharded import connect

        if self.model is not None and (why := not_a_version(self.model, "--model ")):
            raise InputError(why)
        files = self.ca_file, self.cert_file, self.key_file
        tls = None
        if any(value is not None for value in (*files, self.server_name)):
            tls = ClientTls(*files, self.server_name)
        if self.server is None:
            return LocalModel(Path(str(self.model)))
        return connect(self.server, tls=tls, manifest=self.manifest)


def read_titles(path: Path | None) -> dict[str, str]:
    """Return the titles of a file of items by their ids; none without a file."""
    if path is None:
        return {}
    from tf_hqgnn.data.items import read_items

    catalogue = read_items(path)
    return {} if catalogue.title is None else dict(zip(catalogue.item_ids, catalogue.title))
