"""A pseudo-random order of any number of things, computed place by place and never stored."""

from __future__ import annotations

import numpy as np

# So many things are put in order in memory, by numpy: some 60 MB while it lasts.
SHUFFLED_WHOLE = 1 << 20
# Luby and Rackoff (1988): four rounds of a Feistel network are a strong pseudo-random permutation.
_ROUNDS = 4
# The finaliser of MurmurHash3 (Appleby, public domain): each bit of the input decides each bit of the output.
_FIRST, _SECOND = np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)


def permuted(places: np.ndarray, count: int, *key: int) -> np.ndarray:
    """Returns what stands at each place of an order of 0 .. count - 1: int64 [n], distinct for distinct places.

    A Feistel network permutes the numbers of a square that is at most four times as large; a number outside 0 .. count
    - 1 is permuted again until it falls inside ("cycle walking", Black and Rogaway, 2002). grain has such an order too,
    of one place a call: 5 s a million where this takes 0.3.

    Args:
      places: int [n], in 0 .. count - 1.
      count: of the things, at least 1, below 2^62.
      *key: tell one order from another.
    """
    bits = max(1, -(-(count - 1).bit_length() // 2))
    mask = np.uint64((1 << bits) - 1)
    keys = np.random.SeedSequence(key).generate_state(_ROUNDS, np.uint32)
    found = np.asarray(places, np.uint64).copy()
    open_places = np.arange(len(found))
    while len(open_places):
        left, right = found[open_places] >> np.uint64(bits), found[open_places] & mask
        for round_key in keys:
            left, right = right, left ^ (_hash(right, round_key) & mask)
        found[open_places] = left << np.uint64(bits) | right
        open_places = open_places[found[open_places] >= np.uint64(count)]
    return found.astype(np.int64)


def _hash(values: np.ndarray, key: np.uint32) -> np.ndarray:
    mixed = values.astype(np.uint32) ^ key
    for shift, factor in ((16, _FIRST), (13, _SECOND)):
        mixed ^= mixed >> np.uint32(shift)
        mixed *= factor
    return (mixed ^ (mixed >> np.uint32(16))).astype(np.uint64)


def drawn(count: int, num: int, seed: int) -> np.ndarray:
    """Returns `num` of 0 .. count - 1, ascending, int64 [num]; a draw of n is within that of n + 1 by the same seed."""
    if count <= SHUFFLED_WHOLE:
        chosen = np.random.default_rng(seed).permutation(count)[:num]
    else:
        chosen = permuted(np.arange(num), count, seed)
    return np.sort(chosen.astype(np.int64))
