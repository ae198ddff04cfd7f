"""The bias for distances: buckets as transformers has them, rows of the table where they belong."""

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from codir_jax.models.relative_bias import NUM_BUCKETS, RelativeBias, bucket

# key - query -> bucket, of transformers' MPNetEncoder.relative_position_bucket.
BUCKETS = {
    -300: 15, -128: 15, -127: 15, -91: 15, -90: 14, -64: 14, -63: 13, -12: 9, -11: 8, -8: 8, -7: 7, -1: 1, 0: 0,
    1: 17, 7: 23, 8: 24, 12: 25, 16: 26, 23: 27, 33: 28, 64: 30, 91: 31, 128: 31, 5000: 31,
}  # fmt: skip


def test_distances_lie_in_the_buckets_of_transformers():
    found = bucket(jnp.asarray(list(BUCKETS), jnp.int32))
    np.testing.assert_array_equal(found, list(BUCKETS.values()))


def test_a_bias_is_the_row_of_its_distance_for_each_head():
    table = np.arange(2 * NUM_BUCKETS, dtype=np.float32).reshape(NUM_BUCKETS, 2) / 7
    bias = RelativeBias(2, nn.initializers.zeros).apply({"params": {"embedding": table}}, 20)
    assert bias.shape == (1, 2, 20, 20) and bias.dtype == jnp.float32
    for query, key in ((0, 0), (3, 2), (2, 3), (0, 19), (19, 0)):
        np.testing.assert_array_equal(bias[0, :, query, key], table[BUCKETS.get(key - query, 26 if key else 10)])
