"""What a notebook would hold: for each library, from a DataFrame to 20 items for every user. The lines are counted."""


def tf_hqgnn_auto(log):
    from tf_hqgnn import Recommender

    model = Recommender(verbose=0).fit(log)
    return model.recommend("all", k=20)


def tf_hqgnn_default(log):
    from tf_hqgnn import Recommender

    model = Recommender("default", verbose=0).fit(log)
    return model.recommend("all", k=20)


def tf_hqgnn_spectral(log):
    from tf_hqgnn import Recommender

    model = Recommender("spectral", verbose=0).fit(log)
    return model.recommend("all", k=20)


def implicit_als(log):
    import numpy as np
    import pandas as pd
    import scipy.sparse
    from implicit.als import AlternatingLeastSquares

    user_index, user_ids = pd.factorize(log["user_id"])
    item_index, item_ids = pd.factorize(log["item_id"])
    matrix = scipy.sparse.csr_matrix((np.ones(len(log), np.float32), (user_index, item_index)))
    model = AlternatingLeastSquares(random_state=2020)
    model.fit(matrix, show_progress=False)
    found, scores = model.recommend(np.arange(len(user_ids)), matrix, N=20)
    table = {"user_id": np.repeat(user_ids, 20), "rank": np.tile(np.arange(1, 21), len(user_ids))}
    return pd.DataFrame({**table, "item_id": item_ids[found.ravel()], "score": scores.ravel()})


def rectools_als(log):
    from implicit.als import AlternatingLeastSquares
    from rectools.dataset import Dataset
    from rectools.models import ImplicitALSWrapperModel

    dataset = Dataset.construct(log.assign(weight=1, datetime="2024-01-01"))
    model = ImplicitALSWrapperModel(AlternatingLeastSquares(random_state=2020))
    model.fit(dataset)
    return model.recommend(log["user_id"].unique(), dataset, k=20, filter_viewed=True)


# What each imports first; seconds of imports are told apart.
IMPORTS = {
    tf_hqgnn_auto: ("tensorflow", "tf_keras", "pandas", "tf_hqgnn.recommender"),
    tf_hqgnn_default: ("tensorflow", "tf_keras", "pandas", "tf_hqgnn.recommender"),
    tf_hqgnn_spectral: ("tensorflow", "tf_keras", "pandas", "tf_hqgnn.recommender"),
    implicit_als: ("pandas", "scipy.sparse", "implicit.als"),
    rectools_als: ("pandas", "rectools.models"),
}
