"""A dev split drawn from the train rows of a user who has none: stratified by class, equal texts on one side."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence

import numpy as np

from codir_jax.data import label_sets

SHARE = 0.1
# More distinct labels than this are no classes to draw from one by one.
_MOST_STRATA = 1000


def draw_with_sets(texts: Sequence[Hashable], sets: Sequence[Collection[str]], seed: int) -> np.ndarray:
    """As `draw`, of texts with any number of classes: by the rarest one of each.

    A class whose texts would all be of the dev split keeps the first of them in train.

    Args:
      texts, seed: as of `draw`. sets: names of the classes of each row.
    """
    in_dev = draw(texts, label_sets.rarest(sets), seed)
    of_text: dict[Hashable, list[int]] = {}
    for row, text in enumerate(texts):
        of_text.setdefault(text, []).append(row)
    known = {name for row in np.flatnonzero(~in_dev) for name in sets[row]}
    for row in np.flatnonzero(in_dev):
        if not known.issuperset(sets[row]):
            in_dev[of_text[texts[row]]] = False
            known |= {name for same in of_text[texts[row]] for name in sets[same]}
    return in_dev


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
