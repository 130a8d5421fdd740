"""A shop's log of purchases: a bestseller that is out of stock, and an item that appeared on the last day."""

import numpy as np

from tf_hqgnn.config import Config
from tf_hqgnn.data.synthetic import generate_log

DAY = 86_400
BESTSELLER, NEW = "bestseller", "new"
SETTINGS = """
data: {split: {method: temporal, valid: 0.1, test: 0.1}}
model: {embedding_dim: 16, initializer: spectral}
loss: {name: softmax, temperature: 0.15, popularity_correction: 0.75}
training: {max_epochs: 3, schedule: constant, evaluate_every: 1, jit_compile: false, steps_per_execution: 4, refit: all}
retrieval: {index: exact}
"""


def write_shop(folder, num_users=300, num_items=120, num_events=5000, seed=11):
    """Writes `log.csv` and `items.csv`; returns them and the users who took the new item on the last day."""
    log = generate_log(num_users, num_items, num_events, seed)
    rows = [
        (log.user_ids[user], log.item_ids[item], int(time))
        for user, item, time in zip(log.user_index, log.item_index, log.timestamp)
    ]
    rng = np.random.default_rng(seed)
    start, end = int(log.timestamp.min()), int(log.timestamp.max())
    rows += [(user, BESTSELLER, int(rng.integers(start, end))) for user in log.user_ids[: num_users * 2 // 3]]
    # Those of one community, since the new item is of a kind, too.
    kind = log.user_categories == log.user_categories[0]
    buyers = log.user_ids[np.flatnonzero(kind)[:60]].tolist()
    rows += [(user, NEW, end + DAY + place) for place, user in enumerate(buyers)]
    lines = ["user_id,item_id,timestamp", *(",".join(map(str, row)) for row in sorted(rows, key=lambda row: row[2]))]
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    items = [*((item, 1) for item in log.item_ids), (BESTSELLER, 0), (NEW, 1)]
    about = ["item_id,available", *(f"{item},{available}" for item, available in items)]
    (folder / "items.csv").write_text("\n".join(about) + "\n")
    return folder / "log.csv", folder / "items.csv", buyers


def shop_config(log, items, *overrides):
    """The settings of the shop's trainings."""
    return Config.from_yaml(SETTINGS, (f"data.path={log}", f"data.items_path={items}", *overrides))
