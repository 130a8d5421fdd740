"""A recommender behind a server, asked as one in memory is: `Recommender`'s queries and its tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tf_hqgnn.data.any_log import read_any_items
from tf_hqgnn.data.chunks import ID_COLUMNS
from tf_hqgnn.data.frames import library_of
from tf_hqgnn.data.id_types import IdType
from tf_hqgnn.export.layout import DEFAULT_MODEL
from tf_hqgnn.queries.pair_queries import PairQueries
from tf_hqgnn.queries.queries import asked_type
from tf_hqgnn.queries.tables import AnswerForm
from tf_hqgnn.serving import client
from tf_hqgnn.serving.sharded import connect
from tf_hqgnn.types import Array, InputError


class Client(PairQueries):
    """Ask a model behind TF Serving or `tf-hqgnn serve`. The methods and their answers are those of `Recommender`.

    A server knows ids as text. If you ask with whole numbers, the ids in the answer are whole numbers, too. If users
    and items have ids of different types, name the types in `ids`.

    Args:
      address: "host:port" of the server's gRPC port; those of all shards with commas between them, if the model is
        exported as shards.
      timeout: seconds that one call may take, above 0.
      tls: keys for encrypted calls; None calls in plain text.
      model: name of the model that answers.
      version: number of the version that answers; None takes the newest that the server has.
      items: a table or a path with titles, as in `Recommender.fit`; if it is a polars table, so are the answers.
      manifest: of the shards, where a server has several of them; see `serving.sharded.ShardedClient`.
      ids: the types of `user_id` and `item_id`, such as `{"user_id": "str", "item_id": "int64"}`.

    Raises:
      InputError: The address has no port, or an argument can't be used.

    >>> import pandas as pd, tempfile
    >>> from tf_hqgnn import Recommender
    >>> from tf_hqgnn.serving.server import Server
    >>> log = pd.DataFrame({"user_id": [1, 1, 2, 2, 3, 3], "item_id": [7, 8, 8, 9, 7, 9]})
    >>> folder = tempfile.TemporaryDirectory()
    >>> version = Recommender("spectral").fit(log).export(folder.name)
    >>> with Server(folder.name, grpc_port=0, rest_port=None) as server:
    ...     with Client(f"127.0.0.1:{server.grpc_port}") as model:
    ...         model.recommend([1], k=1)["item_id"].tolist()
    [9]
    >>> folder.cleanup()
    """

    def __init__(
        self,
        address: str = "127.0.0.1:8500",
        timeout: float = 10.0,
        tls: client.ClientTls | None = None,
        *,
        model: str = DEFAULT_MODEL,
        version: int | None = None,
        items: Any = None,
        ids: Mapping[str, str] | None = None,
        manifest: str | Path | None = None,
    ) -> None:
        self._client = connect(address, timeout, tls, None if manifest is None else Path(manifest))
        self._model, self._version = model, version
        self._ids = {name: _id_type(name, kind) for name, kind in (ids or {}).items()}
        catalogue = None if items is None else read_any_items(items)
        self._titles: Mapping[str, str] | None = None
        if catalogue is not None and catalogue.title is not None:
            self._titles = dict(zip(catalogue.item_ids, catalogue.title))
        self._is_polars = library_of(items) == "polars"

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _predict(self, signature: str, inputs: dict[str, Array]) -> dict[str, Array]:
        return self._client.predict(signature, inputs, self._model, self._version)

    def _form(self, users: Any = None, items: Any = None) -> AnswerForm:
        asked = asked_type(users if users is not None else items)
        user_id, item_id = (self._ids.get(name, asked) for name in ID_COLUMNS)
        return AnswerForm(user_id, item_id, "polars" if self._is_polars else "pandas", self._titles)


def _id_type(column: str, kind: str) -> IdType:
    if column not in ID_COLUMNS:
        raise InputError(f"ids: {column!r} is not a column of ids; expected user_id and item_id")
    if kind not in ("str", "bytes"):
        try:
            is_number = np.dtype(kind).kind in "iuf"
        except TypeError:
            is_number = False
        if not is_number:
            raise InputError(f"ids: {column} can't be of type {kind!r}; expected str, bytes or a number such as int64")
    return IdType(kind)
