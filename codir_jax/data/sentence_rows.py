"""Pairs of sentences, with or without a contradiction, as rows of the kind that a batch is to have.

The kinds of rows, `data.layout`:

    pairs      two texts and a label: 1 where they mean the same (entailment), 0 where they contradict each other
    triplets   an anchor, a text that means the same, and one that contradicts it; column `has_negative` is 0 where
               there is none, and the third text is empty then
    sentences  every different text by itself

A file of pairs makes triplets as in SimCSE: an entailed pair gets a contradiction of the same first text, where there
is one. A file of triplets makes two pairs of each, as in PairSupCon.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from codir_jax.data.splits import RawSplit
from codir_jax.processes.user_error import UserError

LAYOUTS = ("auto", "pairs", "triplets", "sentences")
LABEL_NAMES = ("contradiction", "entailment")


class Pair(NamedTuple):
    """Two texts; `label` is 1 where the first entails the second, 0 where they contradict each other."""

    first: str
    second: str
    label: int


class Triplet(NamedTuple):
    """`positive` means the same as `anchor`, `negative` contradicts it; None where there is none."""

    anchor: str
    positive: str
    negative: str | None


def rows(found: Sequence[Pair] | Sequence[Triplet] | Sequence[str], layout: str) -> RawSplit:
    """Returns the rows of that layout; "auto" leaves them as they are.

    Raises:
      UserError: single sentences are to be pairs or triplets.
    """
    kind = {Pair: "pairs", Triplet: "triplets", str: "sentences"}[type(found[0])]
    wanted = kind if layout == "auto" else layout
    if kind == "sentences" and wanted != kind:
        raise UserError(f"data.layout={layout!r} needs pairs or triplets, and the data are single sentences")
    if wanted == "pairs":
        pairs = found if kind == "pairs" else [pair for triplet in found for pair in _pairs_of(triplet)]
        firsts, seconds, labels = map(list, zip(*pairs, strict=True))
        return RawSplit(firsts, None, labels, (seconds,))
    if wanted == "triplets":
        triplets = found if kind == "triplets" else _triplets_of(found)
        anchors, positives, negatives = map(list, zip(*triplets, strict=True))
        has_negative = [float(text is not None) for text in negatives]
        return RawSplit(
            anchors, None, None, (positives, [text or "" for text in negatives]), {"has_negative": has_negative}
        )
    texts = found if kind == "sentences" else [text for row in found for text in row if isinstance(text, str)]
    return RawSplit(list(dict.fromkeys(text.strip() for text in texts)))


def _pairs_of(triplet: Triplet) -> list[Pair]:
    pairs = [Pair(triplet.anchor, triplet.positive, 1)]
    return pairs if triplet.negative is None else [*pairs, Pair(triplet.anchor, triplet.negative, 0)]


def _triplets_of(pairs: Sequence[Pair]) -> list[Triplet]:
    contradictions = defaultdict(list)
    for pair in pairs:
        if pair.label == 0:
            contradictions[pair.first.strip()].append(pair.second)
    number, triplets = defaultdict(int), []
    for pair in pairs:
        if pair.label == 1:
            own = contradictions.get(pair.first.strip(), [None])
            # Each in its turn, where an anchor has several of both.
            triplets.append(Triplet(pair.first, pair.second, own[number[pair.first.strip()] % len(own)]))
            number[pair.first.strip()] += 1
    return triplets
