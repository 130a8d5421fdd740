"""A client of a model that is cut into shards: it asks all of them and puts their answers together exactly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import grpc
import numpy as np

from tf_hqgnn.export.layout import DEFAULT_MODEL
from tf_hqgnn.export.shard_manifest import SHARD_SIGNATURES, ShardManifest, shard_names
from tf_hqgnn.serving.client import Client, ClientTls
from tf_hqgnn.serving.pair_answers import PairClient
from tf_hqgnn.types import Array, InputError

# Of `SHARD_SIGNATURES`, those of users alone, of which every shard knows the same.
_OF_USERS = ("embed_user", "similar_users")
_AVAILABLE = "AVAILABLE"
# What would need the items of other shards.
_NEEDS_ALL = ("diversity", "popularity")


@dataclass(frozen=True)
class _Places:
    """A server for each shard, in the order of their items, and the version that all of them have."""

    clients: tuple[Client, ...]
    names: tuple[str, ...]
    version: int


class ShardedClient(PairClient):
    """Asks the servers of all shards at once; answers as `Client` does for the whole model.

    The k best of all items are among the k best of each shard, and shards are ranges of the items in their order, so
    equal scores go to the lower row here as there. All shards are asked for the same version, the highest that all
    have, so that an answer never mixes two. Histories, features, similar items, explanations, and `diversity` and
    `popularity` of `recommend_where` need items of more than one shard, and are refused.

    Args:
      addresses: "host:port" of each server, in any order; without a manifest one for each shard.
      timeout: as of `Client`.
      tls: as of `Client`.
      manifest: what `tf-hqgnn export --shards N` wrote: then a server may have several shards, and the manifest's
        version is asked.

    Raises:
      InputError: As of `Client`; or the manifest can't be read.

    `with ShardedClient(["10.0.0.1:8500", "10.0.0.2:8500"]) as client: client.recommend(["user 7"], k=5)`
    """

    def __init__(
        self,
        addresses: Sequence[str],
        timeout: float = 10.0,
        tls: ClientTls | None = None,
        manifest: Path | None = None,
    ) -> None:
        self._manifest = None if manifest is None else ShardManifest.load(manifest)
        self._addresses = list(dict.fromkeys(addresses))
        if not self._addresses:
            raise InputError("expected the address of at least one server")
        self._clients = [Client(address, timeout, tls) for address in self._addresses]
        self._pool = ThreadPoolExecutor(max_workers=len(self._clients) + self._num_shards)
        self._places: dict[tuple[str, int | None], _Places] = {}

    @property
    def _num_shards(self) -> int:
        return len(self._addresses) if self._manifest is None else len(self._manifest.shards)

    def predict(
        self,
        signature_name: str,
        inputs: dict[str, Array],
        model: str = DEFAULT_MODEL,
        version: int | None = None,
        output_filter: Sequence[str] = (),
    ) -> dict[str, Array]:
        """Calls a signature of every shard with arrays (strings as objects of bytes); returns the whole's outputs.

        Raises:
          InputError: As of `Client`; or no answer can be put together from those of shards.
        """
        _check_mergeable(signature_name, inputs)
        if version is None and self._manifest is not None:
            version = self._manifest.version
        key = model, version
        was_known = key in self._places
        try:
            answers = self._ask(key, signature_name, inputs)
        except InputError as error:
            if not was_known or not _is_not_found(error):
                raise
            # A newer version has taken the place of the one that was found.
            del self._places[key]
            answers = self._ask(key, signature_name, inputs)
        outputs = _merged(signature_name, answers)
        return {name: value for name, value in outputs.items() if not output_filter or name in output_filter}

    def unknown_items(self, item_ids: Sequence[str]) -> set[str]:
        """See `QueryClient`; by scores, since no shard finds similar items."""
        (answer,) = self.score([""], item_ids)
        return {item for item, known in zip(item_ids, answer.known_items) if not known}

    def close(self) -> None:
        """Closes the connections."""
        self._pool.shutdown()
        for client in self._clients:
            client.close()

    def __enter__(self) -> ShardedClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(
        self, key: tuple[str, int | None], signature_name: str, inputs: dict[str, Array]
    ) -> list[dict[str, Array]]:
        if key not in self._places:
            self._places[key] = self._find(*key)
        places = self._places[key]
        pairs = list(zip(places.clients, places.names))
        if signature_name in _OF_USERS:
            pairs = pairs[:1]
        asked = [self._pool.submit(client.predict, signature_name, inputs, name, places.version)
                 for client, name in pairs]  # fmt: skip
        return [one.result() for one in asked]

    def _find(self, model: str, version: int | None) -> _Places:
        """Finds out which server has which shard, and which version all of them have."""
        names = shard_names(self._num_shards, model)
        asked = {name: [self._pool.submit(_available, client, name) for client in self._clients] for name in names}
        found = {name: [one.result() for one in servers] for name, servers in asked.items()}
        missing = [name for name, servers in found.items() if not any(servers)]
        if missing:
            raise InputError(
                f"{', '.join(self._addresses)}: no server has {', '.join(missing)}; name a server for each shard, or "
                "give --manifest where one has several"
            )
        common = set.intersection(*(set().union(*servers) for servers in found.values()))
        if version is not None:
            common &= {version}
        if not common:
            wanted = "a version" if version is None else f"version {version}"
            raise InputError(
                f"{', '.join(self._addresses)}: the shards don't all have {wanted} in common; wait until every server "
                "has loaded the same export"
            )
        newest = max(common)
        clients = [
            next(client for client, there in zip(self._clients, servers) if newest in there)
            for servers in found.values()
        ]
        return _Places(tuple(clients), tuple(names), newest)


def connect(
    addresses: str, timeout: float = 10.0, tls: ClientTls | None = None, manifest: Path | None = None
) -> Client | ShardedClient:
    """Returns a client of one server, or of the servers of all shards.

    Args:
      addresses: "HOST:PORT", or several with commas between them.
      timeout: as of `Client`.
      tls: as of `Client`.
      manifest: as of `ShardedClient`.

    Raises:
      InputError: As of `Client` and `ShardedClient`.

    >>> with connect("127.0.0.1:8500") as client: type(client).__name__
    'Client'
    >>> with connect("127.0.0.1:8500,127.0.0.1:8510") as client: type(client).__name__
    'ShardedClient'
    """
    if manifest is None and "," not in addresses:
        return Client(addresses, timeout, tls)
    return ShardedClient([one.strip() for one in addresses.split(",") if one.strip()], timeout, tls, manifest)


def _available(client: Client, name: str) -> set[int]:
    """The versions of a model that a server answers by; none if it doesn't have the model."""
    try:
        return {version for version, (state, _) in client.status(name).items() if state == _AVAILABLE}
    except InputError as error:
        if _is_not_found(error):
            return set()
        raise


def _is_not_found(error: InputError) -> bool:
    cause = error.__cause__
    return isinstance(cause, grpc.RpcError) and cause.code() == grpc.StatusCode.NOT_FOUND


def _check_mergeable(signature_name: str, inputs: Mapping[str, Array]) -> None:
    if signature_name not in SHARD_SIGNATURES:
        raise InputError(
            f"{signature_name} needs items of all shards at once, which no server of shards has: ask a model that is "
            "exported without --shards"
        )
    for name in _NEEDS_ALL:
        if np.any(inputs.get(name, 0) != 0):
            raise InputError(
                f"{name} needs items of all shards at once, which no server of shards has: leave it out, or ask a "
                "model that is exported without --shards"
            )


def _merged(signature_name: str, answers: Sequence[dict[str, Array]]) -> dict[str, Array]:
    """The outputs of the whole model, from those of its shards in the order of their items."""
    if signature_name in _OF_USERS:
        return answers[0]
    if signature_name == "score":
        known = np.array([answer["known_item"] for answer in answers])
        # An item is in one shard, and its score is 0 in all others.
        shard = known.argmax(axis=0)[np.newaxis]
        score = np.take_along_axis(np.array([answer["score"] for answer in answers]), shard, axis=0)[0]
        return {**answers[0], "score": score, "known_item": known.any(axis=0)}
    return {**answers[0], **_best(answers)}


def _best(answers: Iterable[dict[str, Array]]) -> dict[str, Array]:
    """The k best of the answers of all shards; of equal scores those of the lower shard, and in it the first."""
    listed = list(answers)
    k = listed[0]["score"].shape[1]
    num_valid = np.array([answer["num_valid"] for answer in listed])
    is_valid = np.concatenate([np.arange(k) < valid[:, np.newaxis] for valid in num_valid], axis=1)
    score = np.concatenate([answer["score"] for answer in listed], axis=1)
    item_id = np.concatenate([answer["item_id"] for answer in listed], axis=1)
    # What isn't valid is padding already; it comes last.
    order = np.argsort(np.where(is_valid, -score.astype(np.float64), np.inf), axis=1, kind="stable")[:, :k]
    return {
        "item_id": np.take_along_axis(item_id, order, axis=1),
        "score": np.take_along_axis(score, order, axis=1),
        "num_valid": np.minimum(num_valid.sum(axis=0), k).astype(num_valid.dtype),
    }
