"""An n-gram model of whole sentences: interpolated Kneser-Ney, exact probabilities, fast samples.

    P(w | h) = max(N(h w) - D, 0) / N(h .) + D T(h) / N(h .) P(w | h'),     h' = h without its first word

N counts occurrences at the highest order; below it, how many different words stand before (Kneser & Ney, 1995). T(h)
is how many different words follow h. The unigrams are interpolated with a uniform distribution, so that every word of
the vocabulary has probability. D = 0.75, or n1 / (n1 + 2 n2) of each order (Ney et al., 1994).

A sentence of the model has 1 to `max_words` words. The first is drawn from P(w | <s>) without </s>, renormalised: what
rejecting empty sentences would give, ln(1 - P(</s> | <s>)) taken off. After word `max_words` the sentence ends with
probability 1. So q sums to 1 over these sentences exactly, without a rejected draw.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from codir_jax.processes import whole
from codir_jax.processes.user_error import UserError


@dataclasses.dataclass(frozen=True, eq=False)
class Level:
    """The n-grams of one order, sorted by their histories and, within these, by their last words.

    Attributes:
      histories: int64 [C], ascending: the n - 1 words before as digits of a number, base vocab_size + 1.
      starts: int64 [C + 1], where the n-grams of each begin.
      words: int32 [G]. shares: float64 [G], the discounted share of each.
      rest: float64 [C], what goes to the order below.
    """

    histories: np.ndarray
    starts: np.ndarray
    words: np.ndarray
    shares: np.ndarray
    rest: np.ndarray


class NGram:
    """A Kneser-Ney model.

    Args:
      vocab_size: words, with the end of a sentence.
      end_id: </s>. max_words: of a sentence, without its end.
      unigram: float64 [vocab_size], sums to 1.
      levels: of order 2, 3, ...
    """

    def __init__(self, vocab_size: int, end_id: int, max_words: int, unigram: np.ndarray, levels: list[Level]):
        self.vocab_size, self.end_id, self.max_words = vocab_size, end_id, max_words
        self.unigram, self.levels = unigram, levels
        self._unigram_sums = np.cumsum(unigram)
        self._sums = [_sums_within(level) for level in levels]
        self._keys = [_keys(level, vocab_size) for level in levels]
        start = np.full((1, max(len(levels), 1)), vocab_size, np.int64)
        first = np.array([self._probability(start, np.array([w]))[0] for w in (end_id,)])
        self.log_not_empty = float(np.log1p(-first[0]))
        whole = self._probability(np.repeat(start, vocab_size, 0), np.arange(vocab_size))
        whole[end_id] = 0.0
        self._first_sums = np.cumsum(whole / whole.sum())

    @property
    def order(self) -> int:
        """Words of the longest n-gram."""
        return len(self.levels) + 1

    def log_probs(self, sentences: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """ln P of every word and of the end after its history, float64 [n, width + 1], nats; 0 behind the end.

        These are of the plain model, in which a sentence may be empty and have any length.

        Args:
          sentences: int [n, width], words; what stands behind the end does not count.
          lengths: int [n], words of each, without the end.
        """
        tokens, is_token = self._closed(sentences, lengths)
        histories = self._histories(tokens)
        found = np.zeros(tokens.shape)
        found[is_token] = np.log(self._probability(histories[is_token], tokens[is_token]))
        return found

    def log_q(self, sentences: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """ln q of whole sentences as `sample` draws them, float64 [n], nats; -inf where it draws none such."""
        found = self.log_probs(sentences, lengths)
        is_full = lengths == self.max_words
        found[is_full, lengths[is_full]] = 0.0
        can_be = (lengths >= 1) & (lengths <= self.max_words)
        return np.where(can_be, found.sum(axis=1) - self.log_not_empty, -np.inf)

    def sample(self, uniforms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sentences drawn word by word, each a pure function of its own numbers.

        Args:
          uniforms: float64 [n, max_words], in [0, 1).

        Returns:
          (words int32 [n, max_words], `end_id` behind the end; lengths int64 [n]).
        """
        words = np.full((len(uniforms), self.max_words), self.end_id, np.int32)
        lengths = np.full(len(uniforms), self.max_words, np.int64)
        history = np.full((len(uniforms), max(len(self.levels), 1)), self.vocab_size, np.int64)
        going = np.arange(len(uniforms))
        for place in range(self.max_words):
            if place:
                drawn = self._next(history[going], uniforms[going, place])
            else:
                drawn = _search(self._first_sums, uniforms[:, 0])
            words[going, place] = drawn
            history[going] = np.concatenate([history[going, 1:], drawn[:, None]], axis=1)
            lengths[going[drawn == self.end_id]] = place
            going = going[drawn != self.end_id]
            if not len(going):
                break
        return words, lengths

    def save(self, path: str | Path) -> None:
        """Writes it as one .npz file, which appears whole."""
        arrays = {f"{field}_{i}": a for i, level in enumerate(self.levels) for field, a in vars(level).items()}
        sizes = np.array([self.vocab_size, self.end_id, self.max_words, len(self.levels)])
        with whole.file(path, binary=True) as file:
            np.savez_compressed(file, sizes=sizes, unigram=self.unigram, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> NGram:
        """The model that `save` wrote.

        Raises:
          UserError: it is not there, or no such file.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                vocab_size, end_id, max_words, count = map(int, stored["sizes"])
                names = [field.name for field in dataclasses.fields(Level)]
                levels = [Level(*(stored[f"{name}_{i}"] for name in names)) for i in range(count)]
                return cls(vocab_size, end_id, max_words, stored["unigram"], levels)
        except (OSError, KeyError, ValueError) as error:
            raise UserError(f"{path} holds no n-gram model ({error}); it is written by `codir train`") from error

    def _closed(self, sentences, lengths):
        """(words with the end behind them, where one counts), both [n, width + 1]."""
        lengths = np.asarray(lengths)
        places = np.arange(np.shape(sentences)[1] + 1)
        tokens = np.pad(np.asarray(sentences, np.int64), ((0, 0), (0, 1)), constant_values=self.end_id)
        return np.where(places < lengths[:, None], tokens, self.end_id), places <= lengths[:, None]

    def _histories(self, tokens):
        """The words before each, int64 [n, width, order - 1], <s> before the first."""
        size = max(len(self.levels), 1)
        padded = np.pad(tokens, ((0, 0), (size, 0)), constant_values=self.vocab_size)
        return np.lib.stride_tricks.sliding_window_view(padded, size, axis=1)[:, :-1]

    def _probability(self, histories, words):
        """P(word | history), float64 [n]; histories int64 [n, order - 1]."""
        found = self.unigram[words]
        for size, (level, keys) in enumerate(zip(self.levels, self._keys, strict=True), 1):
            place, is_there = _find(level.histories, _number(histories[:, -size:], self.vocab_size + 1))
            if not is_there.any():
                continue
            entry, is_listed = _find(keys, place * self.vocab_size + words)
            share = np.where(is_listed, level.shares[entry], 0.0)
            found = np.where(is_there, share + level.rest[place] * found, found)
        return found

    def _next(self, histories, uniforms):
        """A word after each history: the share of an order is taken where the number falls in, else the order below."""
        uniforms, drawn = uniforms.copy(), np.full(len(histories), -1, np.int64)
        for size in range(len(self.levels), 0, -1):
            level, sums = self.levels[size - 1], self._sums[size - 1]
            place, is_there = _find(level.histories, _number(histories[:, -size:], self.vocab_size + 1))
            is_open = is_there & (drawn < 0)
            top = np.where(is_open, 1.0 - level.rest[place], 0.0)
            here = is_open & (uniforms < top)
            entry = np.searchsorted(sums, place[here] + uniforms[here], side="right")
            first, last = level.starts[place[here]], level.starts[place[here] + 1] - 1
            drawn[here] = level.words[np.clip(entry, first, last)]
            # What is left of the number is again uniform.
            below = is_open & ~here
            uniforms[below] = np.clip((uniforms[below] - top[below]) / (1.0 - top[below]), 0.0, 1.0 - 2.0**-53)
        rest = drawn < 0
        drawn[rest] = _search(self._unigram_sums, uniforms[rest])
        return drawn


def fit(
    sentences: Iterable[np.ndarray],
    *,
    vocab_size: int,
    end_id: int,
    max_words: int,
    order: int = 3,
    discount: float = 0.75,
) -> NGram:
    """The model of train sentences.

    Args:
      sentences: int arrays of words, without their ends.
      vocab_size, end_id, max_words: as of `NGram`.
      order: of the n-grams, at least 1.
      discount: D, above 0 and below 1; 0 estimates that of each order.

    Raises:
      UserError: an order too high for the vocabulary, or no sentence.
    """
    base = vocab_size + 1
    if order < 1 or base**order >= 1 << 62:
        raise UserError(f"an n-gram model of order {order} over {vocab_size:,} words; at least 1, and lower it")
    if not 0 <= discount < 1:
        raise UserError(f"the discount of an n-gram model is in [0, 1), got {discount}; 0.75 is usual")
    size = max(order - 1, 1)
    before, end = np.full(size, vocab_size, np.int64), np.array([end_id], np.int64)
    parts = [np.concatenate([before, np.asarray(sentence, np.int64), end]) for sentence in sentences]
    if not parts:
        raise UserError("an n-gram model of no sentences; give it text to be counted")
    text = np.concatenate(parts)
    starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])[:-1]])
    counted = np.ones(len(text), bool)  # what is predicted: not the <s> before a sentence
    counted[(starts[:, None] + np.arange(size)).ravel()] = False
    ends = np.flatnonzero(counted)
    grams = _number(np.stack([text[ends - back] for back in range(order - 1, -1, -1)], 1), base)
    grams, counts = np.unique(grams, return_counts=True)
    levels = []
    for words in range(order, 1, -1):
        levels.append(_level(grams, counts, base, discount))
        grams, counts = np.unique(grams % base ** (words - 1), return_counts=True)
    kept = np.zeros(vocab_size)
    own = discount or _estimated(counts)
    kept[grams] = np.maximum(counts - own, 0) / counts.sum()
    unigram = kept + (1.0 - kept.sum()) / vocab_size
    return NGram(vocab_size, end_id, max_words, unigram / unigram.sum(), levels[::-1])


def _level(grams, counts, base, discount):
    own = discount or _estimated(counts)
    histories, starts = np.unique(grams // base, return_index=True)
    totals = np.add.reduceat(counts, starts).astype(np.float64)
    starts = np.append(starts, len(grams))
    sizes = np.diff(starts)
    shares = np.maximum(counts - own, 0) / np.repeat(totals, sizes)
    # Of the rounded shares, so that both sum to 1.
    rest = 1.0 - np.add.reduceat(shares, starts[:-1])
    return Level(histories, starts, (grams % base).astype(np.int32), shares, rest)


def _estimated(counts):
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    return once / (once + 2 * twice) if once else 0.5


def _sums_within(level: Level) -> np.ndarray:
    """Number of the history + the shares summed within it: ascending over the whole level."""
    running = np.cumsum(level.shares)
    sizes = np.diff(level.starts)
    before = np.repeat(running[level.starts[:-1]] - level.shares[level.starts[:-1]], sizes)
    return np.repeat(np.arange(len(sizes), dtype=np.float64), sizes) + (running - before)


def _keys(level: Level, vocab_size: int) -> np.ndarray:
    return np.repeat(np.arange(len(level.histories)), np.diff(level.starts)) * vocab_size + level.words


def _number(words, base):
    found = words[:, 0].astype(np.int64)
    for column in words.T[1:]:
        found = found * base + column
    return found


def _find(ascending, values):
    """(place of each value or of another, whether it is there)."""
    place = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return place, ascending[place] == values


def _search(sums, uniforms):
    return np.minimum(np.searchsorted(sums, uniforms, side="right"), len(sums) - 1)
