"""Moves the version labels of a model on running TF Servings: canary, full, and back.

    python serving/label.py --server host:8500 --model hqgnn --label canary --version 7
    python serving/label.py --server host:8500 --model hqgnn --label stable --version 7
    python serving/label.py --server host:8500 --model hqgnn --rollback

Loads the version on every server, waits until it is AVAILABLE on all of them, moves the label, unloads what no label
needs, and rewrites the config file: what a server that restarts will read. If loading or labelling fails anywhere, the
old labels are put back everywhere; so they are after Ctrl-C and SIGTERM, and by the next call after a kill. Two at
once exclude each other. Needs grpcio and tensorflow-serving-api, and nothing of tf_hqgnn.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

# The file lies beside this one: `python serving/label.py` finds its neighbours.
from label_config import LabelError, ModelServerConfig, entry, load, previous_path, save, steps, with_entry
from label_guard import (
    Interrupted,
    alone,
    alone_in_namespace,
    ended_by_signals,
    journal_path,
    unmoved_by_signals,
)
from label_servers import ModelServer, Tls, forwarded, kubectl, running_pods

GRPC_PORT = 8500
NOTHING_MOVED = "no label was moved"


def move(
    servers: Sequence[ModelServer], config: ModelServerConfig, model: str, labels: Mapping[str, int], seconds: float
) -> None:
    """Makes `labels` the labels of the model on all servers, or of none. Unloads nothing.

    Args:
      servers: all that share the config.
      config: what they run with now.
      model: one of its models.
      labels: all labels of the model -> version.
      seconds: for loading.

    Raises:
      LabelError: The labels are the old ones again, unless the message says otherwise.
    """
    loading, relabelled, _ = steps(config, model, labels)
    touched: list[ModelServer] = []
    try:
        for server in servers:
            touched.append(server)
            server.reload(loading)
        deadline = time.monotonic() + seconds
        for server in servers:
            for version in sorted(set(labels.values())):
                server.wait_available(model, version, deadline)
        for server in servers:
            server.reload(relabelled)
    except LabelError as error:
        raise LabelError(f"{error}\n{put_back(touched, config)}") from error


def unload(servers: Sequence[ModelServer], config: ModelServerConfig) -> None:
    """Reloads a config that names fewer versions.

    Raises:
      LabelError: A server refuses; its labels are right, its memory isn't what it should be.
    """
    for server in servers:
        try:
            server.reload(config)
        except LabelError as error:
            raise LabelError(
                f"{error}\nthe labels were moved, but versions without a label are still loaded"
            ) from error


def put_back(servers: Sequence[ModelServer], config: ModelServerConfig) -> str:
    """Reloads the old config, and says with what success."""
    failed = []
    for server in servers:
        try:
            server.reload(config)
        except LabelError as error:
            failed.append(str(error))
    if failed:
        return "the old labels could NOT be put back everywhere: " + "; ".join(failed)
    return NOTHING_MOVED


@contextmanager
def put_back_unless_kept(servers: Sequence[ModelServer], config: ModelServerConfig, path: Path) -> Iterator[None]:
    """Leaves all servers with the labels of the file, however the block ends.

    A signal in the block puts the old labels back. A process that is killed leaves a note, and the next one puts them
    back before anything else.

    Args:
      servers: all that share the config.
      config: what the file holds.
      path: of the file, which the block replaces at its end.
    """
    journal = journal_path(path)
    if journal.exists() and servers:
        print(f"an earlier label.py was killed: the labels of {path} are put back first", file=sys.stderr)
        message = put_back(servers, config)
        if message != NOTHING_MOVED:
            raise LabelError(message)
    journal.touch()
    try:
        yield
    except Interrupted as error:
        with unmoved_by_signals():
            message = put_back(servers, load(path))
            journal.unlink()
        ended = f"all servers have the labels of {path}" if message == NOTHING_MOVED else message
        raise LabelError(f"interrupted by {error}: {ended}") from error
    except BaseException:
        journal.unlink()
        raise
    journal.unlink()


def new_labels(config: ModelServerConfig, flags: argparse.Namespace) -> dict[str, int]:
    """What the flags make of the model's labels.

    Raises:
      LabelError: No such model, or nothing to roll back to.
    """
    labels = dict(entry(config, flags.model).version_labels)
    if not flags.rollback:
        return {**labels, flags.label: flags.version}
    path = previous_path(flags.config)
    if not path.exists():
        raise LabelError(
            f"{path}: not there, so no label has been moved yet; name a version: --label stable --version N"
        )
    before = dict(entry(load(path), flags.model).version_labels)
    if before == labels:
        raise LabelError(f"{path}: has the labels of now for {flags.model}; name a version: --label stable --version N")
    return before


def keep(path: Path, old: ModelServerConfig, new: ModelServerConfig, model: str) -> None:
    """Writes the config, and beside it what a rollback of this model goes back to; other models keep theirs."""
    before = entry(old, model)
    if before.version_labels != entry(new, model).version_labels:
        previous = previous_path(path)
        record = load(previous) if previous.exists() else old
        known = any(other.name == model for other in record.model_config_list.config)
        save(previous, with_entry(record, before) if known else old)
    save(path, new)


def tls(flags: argparse.Namespace) -> Tls | None:
    """Returns the TLS settings that the flags give, None for plain text."""
    given = Tls(flags.ca_file, flags.cert_file, flags.key_file, flags.server_name)
    return None if given == Tls() else given


def run(flags: argparse.Namespace) -> str:
    """Does what the flags say; the line to print."""
    with ExitStack() as stack:
        stack.enter_context(ended_by_signals())
        load(flags.config)  # A file that isn't there needs no lock beside it.
        stack.enter_context(alone(flags.config))
        config = load(flags.config)
        labels = new_labels(config, flags)
        addresses, pods = flags.server, []
        if flags.namespace:
            pods = running_pods(flags.namespace, flags.selector)
            stack.enter_context(alone_in_namespace(flags.namespace, f"{flags.configmap}-label-lock"))
            addresses = stack.enter_context(forwarded(flags.namespace, pods, GRPC_PORT))
        servers = [ModelServer(address, flags.timeout, tls(flags)) for address in addresses]
        for server in servers:
            stack.callback(server.close)
        _, relabelled, final = steps(config, flags.model, labels)
        with put_back_unless_kept(servers, config, flags.config):
            if not flags.offline:
                move(servers, config, flags.model, labels, flags.timeout)
            # From here on the labels are the new ones: what restarts must have them, too.
            keep(flags.config, config, final, flags.model)
        if flags.namespace:
            # Pods that start from now on read this; those that run have it already.
            patch = json.dumps({"data": {flags.config.name: flags.config.read_text(encoding="utf-8")}})
            kubectl(flags.namespace, "patch", "configmap", flags.configmap, "--type=merge", f"--patch={patch}")
            if running_pods(flags.namespace, flags.selector) != pods:
                raise LabelError("pods came or went meanwhile and may have the old labels; run the same command again")
        if final != relabelled:
            unload(servers, final)
    count = f"{len(servers)} server{'s' if len(servers) > 1 else ''}"
    where = "in the file only" if flags.offline else count
    versions = ", ".join(f"{label} {version}" for label, version in sorted(labels.items()))
    return f"{flags.model}: {versions} ({where})"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags; exits with 2 if they don't go together."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--server", action="append", default=[], help="host:port of gRPC; once for every server")
    where.add_argument("--namespace", help="all pods of --selector in this Kubernetes namespace, through kubectl")
    where.add_argument("--offline", action="store_true", help="rewrite the file only, for servers that will be started")
    parser.add_argument("--selector", default="app.kubernetes.io/name=hqgnn", help="label of the pods")
    parser.add_argument("--configmap", default="tf-serving", help="the ConfigMap that the pods read")
    parser.add_argument(
        "--config", type=Path, default=Path(__file__).with_name("models.config"), help="their config file"
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--label", choices=("canary", "stable"))
    parser.add_argument("--version", type=int)
    parser.add_argument("--rollback", action="store_true", help="the labels from before the last change")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds for a call and for loading (300)")
    parser.add_argument("--ca-file", type=Path, help="PEM of the authority that signed the servers' certificates: TLS")
    parser.add_argument("--cert-file", type=Path, help="PEM of a certificate to show to the servers (mutual TLS)")
    parser.add_argument("--key-file", type=Path, help="PEM of its private key")
    parser.add_argument("--server-name", help="name in the servers' certificate, where it isn't that of the address")
    flags = parser.parse_args(argv)
    named = flags.label is not None and flags.version is not None
    if flags.rollback == named or (flags.rollback and (flags.label or flags.version is not None)):
        parser.error("expected either --label and --version, or --rollback")
    if (flags.cert_file is None) != (flags.key_file is None):
        parser.error("a certificate and its private key go together: give --cert-file and --key-file")
    if named and flags.version < 1:
        parser.error(f"--version {flags.version}: expected a positive number, the name of a folder under base_path")
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """0 done, 1 with the reason on standard error."""
    flags = parse(argv)
    try:
        print(run(flags))
    except LabelError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
