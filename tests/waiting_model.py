"""A model that waits for a file: what is done while it waits is done in the middle of a job."""

import tensorflow as tf


class Waiting(tf.Module):
    """Recommends to user "u" the items "u-0".."u-<k-1>", but to "wait..." only once a file is there.

    Each call that waits makes a file `GATE.asked-N`, with another number N for other users.
    """

    def __init__(self, gate):
        super().__init__()
        self.gate = str(gate)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string),
            tf.TensorSpec([], tf.int32),
            tf.TensorSpec([None, None], tf.string),
            tf.TensorSpec([None], tf.string),
        ]
    )
    def recommend(self, user_id, k, exclude_item_id, category):
        waits = tf.strings.regex_full_match(user_id, "wait.*")
        must_wait = tf.reduce_any(waits)
        number = tf.as_string(tf.strings.to_hash_bucket_fast(tf.strings.reduce_join(user_id), 1 << 20))
        tf.cond(must_wait, lambda: tf.io.write_file(self.gate + ".asked-" + number, ""), tf.no_op)

        def still(turn):
            # The name depends on the turn: TensorFlow would look for a constant one before the loop, once.
            nothing = tf.strings.substr(tf.as_string(turn), 0, 0)
            return must_wait & (tf.size(tf.io.matching_files(self.gate + nothing)) == 0)

        waited = tf.while_loop(still, lambda turn: [turn + 1], [tf.constant(0)])
        with tf.control_dependencies(waited):
            ranks = tf.range(k)
        shape = [tf.size(user_id), k]
        item_id = tf.broadcast_to(user_id[:, None], shape) + "-" + tf.broadcast_to(tf.as_string(ranks), shape)
        return {
            "item_id": item_id,
            "score": tf.repeat(-tf.cast(ranks, tf.float32)[None], tf.size(user_id), 0),
            "num_valid": tf.fill([tf.size(user_id)], k),
            "known_user": ~waits,
        }


def save_waiting(path, gate):
    """Saves the model, which waits for the file `gate`."""
    module = Waiting(gate)
    tf.saved_model.save(module, str(path), signatures={"recommend": module.recommend})


def waiting_rows(users, k):
    """What a batch answers for these users once the file is there, by user."""
    return {
        user: {
            "user_id": user,
            "known_user": not user.startswith("wait"),
            "item_ids": [f"{user}-{rank}" for rank in range(k)],
            "scores": [-float(rank) for rank in range(k)],
        }
        for user in users
    }
