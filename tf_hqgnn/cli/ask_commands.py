"""The commands that ask a model about a user: `recommend`, `score`, `explain` and `similar-users`."""

from __future__ import annotations

from typing import Annotated

import typer

from tf_hqgnn.cli.output import print_answer, print_explanation, print_scores, print_similar_users
from tf_hqgnn.cli.source_options import (
    CaFileOption,
    CertFileOption,
    JsonOption,
    KeyFileOption,
    ManifestOption,
    ModelOption,
    ServerNameOption,
    ServerOption,
    Source,
    TitlesOption,
    read_titles,
)
from tf_hqgnn.cli.terminal import utf8
from tf_hqgnn.cli.unknown_names import tell_unknown, tell_unknown_features
from tf_hqgnn.types import InputError

UserOption = Annotated[str, typer.Option(metavar="ID", help="ID of the user.")]


def recommend(
    user: Annotated[str | None, typer.Option(metavar="ID", help="ID of the user to recommend to.")] = None,
    server: ServerOption = None,
    model: ModelOption = None,
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="Number of items to recommend.")] = 10,
    exclude: Annotated[list[str] | None, typer.Option(metavar="ID", help="Item not to recommend; repeatable.")] = None,
    category: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Recommend only items of this category; repeat it to allow several.",
        ),
    ] = None,
    history: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID",
            help="Item that the user took; repeatable. Use it instead of --user, or beside it for items taken since "
            "training.",
        ),
    ] = None,
    feature: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Feature of a new user, such as age=24, instead of --user; repeatable.",
        ),
    ] = None,
    candidate: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Candidate: recommend only the best of these; repeatable.")
    ] = None,
    exclude_category: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Category not to recommend; repeatable.")
    ] = None,
    allow_seen: Annotated[bool, typer.Option(help="Recommend items again that the user has taken.")] = False,
    diversity: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="How far to move items up that differ from those above them, from 0 (not at all) to 1.",
        ),
    ] = 0.0,
    popularity: Annotated[
        float,
        typer.Option(
            help="Add this number times log(item's share of all interactions) to scores; below 0 favours rare items.",
        ),
    ] = 0.0,
    items: TitlesOption = None,
    ca_file: CaFileOption = None,
    cert_file: CertFileOption = None,
    key_file: KeyFileOption = None,
    server_name: ServerNameOption = None,
    manifest: ManifestOption = None,
    as_json: JsonOption = False,
) -> None:
    """Recommend items to a user.

    A model is a program: load only one that you trust.
    """
    source = Source(server, model, ca_file, cert_file, key_file, server_name, manifest)
    if (feature and (user is not None or history)) or not (feature or user is not None or history):
        raise InputError(
            "pass --user ID, or --history ID once for each item that was taken, or both, or --feature NAME=VALUE once "
            "for each feature"
        )
    wishes = bool(exclude_category or allow_seen or diversity or popularity or len(category or ()) > 1)
    if (candidate or wishes) and (user is None or history):
        raise InputError(
            "--candidate, --exclude-category, --allow-seen, --diversity, --popularity and a second --category go with "
            "--user alone: leave out --history and --feature"
        )
    user, taken = None if user is None else utf8(user), [utf8(one) for one in history or ()]
    excluded, candidates = tuple(utf8(one) for one in exclude or ()), [utf8(one) for one in candidate or ()]
    categories, others = [utf8(one) for one in category or ()], [utf8(one) for one in exclude_category or ()]
    one_category = categories[0] if categories else ""
    with source.open() as asked:
        if feature:
            features = [[utf8(one) for one in feature]]
            (answer,) = asked.recommend_for_features(features, k=k, exclude=excluded, category=one_category)
        elif user is None:
            (answer,) = asked.recommend_for_history([taken], k=k, exclude=excluded, category=one_category)
        elif wishes or candidates:
            (answer,) = asked.recommend_where(
                [user],
                k=k,
                exclude=excluded,
                include=candidates,
                category=categories,
                exclude_category=others,
                allow_seen=allow_seen,
                diversity=diversity,
                popularity=popularity,
            )
        elif taken:
            (answer,) = asked.recommend_with_history([user], [taken], k=k, exclude=excluded, category=one_category)
        else:
            (answer,) = asked.recommend([user], k=k, exclude=excluded, category=one_category)
        named = {"--history": taken, "--exclude": excluded, "--candidate": candidates}
        tell_unknown(asked, model, [*categories, *others], named, not answer.item_ids)
        if feature:
            tell_unknown_features(asked, features[0])
    print_answer(answer, user, len(taken), read_titles(items), as_json, feature or ())


def score(
    user: UserOption,
    item: Annotated[list[str], typer.Option(metavar="ID", help="Item to score; repeatable.")],
    server: ServerOption = None,
    model: ModelOption = None,
    items: TitlesOption = None,
    ca_file: CaFileOption = None,
    cert_file: CertFileOption = None,
    key_file: KeyFileOption = None,
    server_name: ServerNameOption = None,
    manifest: ManifestOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the scores of given items for a user.

    A model is a program: load only one that you trust.
    """
    names = [utf8(one) for one in item]
    with Source(server, model, ca_file, cert_file, key_file, server_name, manifest).open() as asked:
        (answer,) = asked.score([utf8(user)], names)
    print_scores(answer, names, read_titles(items), as_json)


def explain(
    user: UserOption,
    item: Annotated[str, typer.Option(metavar="ID", help="Item whose score is explained.")],
    server: ServerOption = None,
    model: ModelOption = None,
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="Number of items of the history to show.")] = 10,
    items: TitlesOption = None,
    ca_file: CaFileOption = None,
    cert_file: CertFileOption = None,
    key_file: KeyFileOption = None,
    server_name: ServerNameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which items that a user took contribute most to the score of an item.

    A model is a program: load only one that you trust.
    """
    with Source(server, model, ca_file, cert_file, key_file, server_name).open() as asked:
        (answer,) = asked.explain([utf8(user)], [utf8(item)], k=k)
    print_explanation(answer, read_titles(items), as_json)


def similar_users(
    user: UserOption,
    server: ServerOption = None,
    model: ModelOption = None,
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="Number of users to find.")] = 10,
    ca_file: CaFileOption = None,
    cert_file: CertFileOption = None,
    key_file: KeyFileOption = None,
    server_name: ServerNameOption = None,
    manifest: ManifestOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the users who are nearest to a user.

    A model is a program: load only one that you trust.
    """
    with Source(server, model, ca_file, cert_file, key_file, server_name, manifest).open() as asked:
        (answer,) = asked.similar_users([utf8(user)], k=k)
    print_similar_users(answer, as_json)
