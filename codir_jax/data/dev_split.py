"""A dev split drawn from the train rows of a user who has none: stratified by class, equal texts on one side."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

SHARE = 0.1
# More distinct labels than this are no classes to draw from one by one.
_MOST_STRATA = 1000


def draw(texts: Sequence[Hashable], strata: Sequence[Hashable], seed: int) -> np.ndarray:
    """Returns which rows are of the dev split, bool [n]: a tenth of the different texts of each stratum.

    A text that comes several times goes with all of its rows, so that none is judged that was trained on. A stratum of
    two texts or more has one in dev, a single text stays in train.

    Args:
      texts: of each row, as a tuple if it has several. strata: of each row, such as its class.
      seed: of the draw; the same rows and seed give the same split.
    """
    if len(set(strata)) > _MOST_STRATA:
        strata = [0] * len(texts)
    stratum_of: dict[Hashable, Hashable] = {}
    for text, stratum in zip(texts, strata, strict=True):
        stratum_of.setdefault(text, stratum)
    by_stratum: dict[Hashable, list[Hashable]] = {}
    for text, stratum in stratum_of.items():
        by_stratum.setdefault(stratum, []).append(text)
    rng, chosen = np.random.default_rng(seed), set()
    for of_one in by_stratum.values():
        count = min(max(round(SHARE * len(of_one)), 1), len(of_one) - 1)
        chosen |= {of_one[i] for i in rng.permutation(len(of_one))[:count].tolist()}
    return np.asarray([text in chosen for text in texts], bool)
