"""Choice among candidate sentences: word errors and weights tuned by a grid.

    total(candidate) = acoustic + model_weight * log score + length_weight * words

A list without acoustic scores has 0 for all of them, and model weight 1. The length weight makes up for what a sum over
words takes from longer candidates; a large one of its own has not been seen, so a grid of nats a word serves.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from codir_jax.processes.user_error import UserError

MODEL_WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0)
LENGTH_WEIGHTS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)


@dataclasses.dataclass(frozen=True)
class NBest:
    """The candidates of one sentence.

    Attributes:
      key: its name. candidates: at least one. acoustic: a log score of each, more is better.
      reference: what was said; None where it is not known.
    """

    key: str
    candidates: tuple[str, ...]
    acoustic: tuple[float, ...]
    reference: str | None


@dataclasses.dataclass(frozen=True)
class Weights:
    """model: of the log score. length: nats a word."""

    model: float = 1.0
    length: float = 0.0


def word_errors(hypothesis: str, reference: str) -> int:
    """Fewest insertions, deletions and substitutions of words that make the reference of the hypothesis."""
    said, meant = hypothesis.split(), reference.split()
    before = list(range(len(meant) + 1))
    for row, word in enumerate(said, 1):
        after = [row]
        for column, other in enumerate(meant, 1):
            after.append(min(before[column] + 1, after[-1] + 1, before[column - 1] + (word != other)))
        before = after
    return before[-1]


def totals(nbest: NBest, scores: np.ndarray, weights: Weights) -> np.ndarray:
    """The total of each candidate, float64 [n]."""
    words = np.array([len(candidate.split()) for candidate in nbest.candidates])
    return np.asarray(nbest.acoustic) + weights.model * np.asarray(scores) + weights.length * words


def ranking(nbest: NBest, scores: np.ndarray, weights: Weights) -> np.ndarray:
    """Places of the candidates, the best one first; of equal ones the first, int64 [n]."""
    return np.argsort(-totals(nbest, scores, weights), kind="stable")


def errors(lists: Sequence[NBest], scores: Sequence[np.ndarray], weights: Weights) -> np.ndarray:
    """(word errors, words of the reference, whether the choice is the reference) of each list, int64 [n, 3]."""
    found = []
    for nbest, own in zip(lists, scores, strict=True):
        choice = nbest.candidates[ranking(nbest, own, weights)[0]]
        number = word_errors(choice, nbest.reference)
        found.append((number, len(nbest.reference.split()), number == 0))
    return np.array(found, np.int64).reshape(-1, 3)


def wer(found: np.ndarray) -> float:
    """Word errors over words, of `errors`."""
    return float(found[:, 0].sum() / max(found[:, 1].sum(), 1))


def tuned(lists: Sequence[NBest], scores: Sequence[np.ndarray]) -> Weights:
    """The weights of the grid with the fewest word errors; of equal ones those nearest to model 1 and length 0.

    Raises:
      UserError: there is no list, or one without its reference.
    """
    if not lists:
        raise UserError("no lists to tune weights on")
    if missing := [nbest.key for nbest in lists if nbest.reference is None]:
        raise UserError(f"weights are tuned by word errors, and {missing[0]!r} has no reference")
    has_acoustic = any(len(set(nbest.acoustic)) > 1 for nbest in lists)
    counted = [np.array([word_errors(c, nbest.reference) for c in nbest.candidates]) for nbest in lists]
    grid = [
        Weights(model, length) for model in (MODEL_WEIGHTS if has_acoustic else (1.0,)) for length in LENGTH_WEIGHTS
    ]

    def cost(weights):
        total = sum(
            int(own[ranking(nbest, score, weights)[0]])
            for nbest, score, own in zip(lists, scores, counted, strict=True)
        )
        return total, abs(weights.model - 1.0) + weights.length

    return min(grid, key=cost)
