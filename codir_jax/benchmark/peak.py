"""The most that these devices do of what a transformer does: matrix products, measured."""

import time

import jax
import jax.numpy as jnp

SIZES = {"cpu": (512, 1024, 2048)}
ACCELERATOR_SIZES = (2048, 4096, 8192)


def matrix_product_flops(sharding, num_shards: int, dtype: str, *, sizes: tuple[int, ...] = (), seconds: float = 0.5):
    """Best operations per second of a jitted product over all devices, a multiply-add counting 2.

    Each shard of the batch multiplies its own [n, n] by a common [n, n], n being one of `sizes`.

    Args:
      sharding: of the first axis, `rules.batch_sharding`. num_shards: its number of parts.
      dtype: of operands and result, "float32" or "bfloat16".
      sizes: n; by default such as saturate the kind of device.
      seconds: spent on each size; where one product takes longer, larger ones are not tried.

    Returns:
      {"flops_per_second": best, "size": its n, "dtype"}.
    """
    sizes = sizes or SIZES.get(jax.default_backend(), ACCELERATOR_SIZES)
    best = {"flops_per_second": 0.0, "size": 0, "dtype": dtype}
    multiply = jax.jit(jnp.matmul)
    for size in sizes:
        left = jax.device_put(jnp.full((num_shards * size, size), 0.5, dtype), sharding)
        right = jnp.full((size, size), 0.5, dtype)
        jax.block_until_ready(multiply(left, right))  # compiles
        one = _seconds(multiply, left, right, 1)
        # Several products in flight at a time hide the cost of starting one; the fastest group counts.
        in_flight = max(1, min(16, int(0.05 / one)))
        num_groups = max(2, int(seconds / (one * in_flight)))
        fastest = min(_seconds(multiply, left, right, in_flight) for _ in range(num_groups))
        flops = in_flight * 2 * num_shards * size**3 / fastest
        if flops > best["flops_per_second"]:
            best |= {"flops_per_second": flops, "size": size}
        if one > seconds > 0:
            break
    return best


def _seconds(multiply, left, right, times: int) -> float:
    start = time.perf_counter()
    jax.block_until_ready([multiply(left, right) for _ in range(times)])
    return time.perf_counter() - start
