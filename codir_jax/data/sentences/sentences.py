"""The sentences of a split, and batches of them with fresh noise.

Noise is drawn on the host, as columns of the batch: the n-gram model is sorted tables that are searched, which an
accelerator does badly, and its draws are made while the devices compute. Row r of step s has noise of the generator
(seed, s, r), so it depends on no number of processes or devices, and a resumed run draws what it would have drawn.
All lengths are mixed in a batch, so that the length of a text tells nothing of it; its sentences are laid end to end in
lines of the longest length (`lines.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from codir_jax.data import ngram
from codir_jax.data.batch import SENTENCE_COLUMNS, Batch, empty
from codir_jax.data.ngram import NGram
from codir_jax.data.sentences import candidates, lines
from codir_jax.data.stream.stream import Stream
from codir_jax.processes.user_error import UserError

_TOKENS_AT_A_TIME = 1 << 20
# Tells the noise of held-out sentences from that of any step.
_HELD_OUT = 1 << 40


@dataclasses.dataclass(frozen=True, eq=False)
class Sentences:
    """Attributes:
    words: int32 [n, max_words], `end_id` behind each. lengths: int64 [n], words. end_id: of </s>, which is <s> too.
    num_left_out: lines without a word, or with too many.
    """

    words: np.ndarray
    lengths: np.ndarray
    end_id: int
    num_left_out: int

    def __len__(self) -> int:
        return len(self.words)


def of_stream(stream: Stream, max_words: int, split: str, closing: np.ndarray) -> Sentences:
    """Returns the lines of a stream that have 1 to `max_words` words; all of them are kept in memory.

    Args:
      closing: bool [vocab], tokens behind which a sentence ends within a line.

    Raises:
      UserError: there is none.
    """
    parts = [
        stream.read(at, min(at + _TOKENS_AT_A_TIME, len(stream))) for at in range(0, len(stream), _TOKENS_AT_A_TIME)
    ]
    tokens = np.concatenate(parts)
    is_end = tokens == stream.eos_token_id
    inside = closing[tokens[:-1]] & ~is_end[:-1] & ~is_end[1:]
    tokens = np.insert(tokens, np.flatnonzero(inside) + 1, stream.eos_token_id)
    ends = np.flatnonzero(tokens == stream.eos_token_id)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts
    kept = (lengths >= 1) & (lengths <= max_words)
    if not kept.any():
        raise UserError(f"the {split} text has no line of 1 to {max_words} words; raise data.max_length")
    starts, lengths, dropped = starts[kept], lengths[kept], int((~kept).sum())
    places = np.arange(max_words)
    inside = places < lengths[:, None]
    words = np.where(inside, tokens[np.minimum(starts[:, None] + places, len(tokens) - 1)], stream.eos_token_id)
    return Sentences(words.astype(np.int32), lengths, stream.eos_token_id, dropped)


def noise_of(sentences: Sentences, vocab_size: int, order: int, discount: float) -> NGram:
    """Returns the n-gram model of train sentences."""
    each = (words[:length] for words, length in zip(sentences.words, sentences.lengths, strict=True))
    width = sentences.words.shape[1]
    return ngram.fit(
        each, vocab_size=vocab_size, end_id=sentences.end_id, max_words=width, order=order, discount=discount
    )


def train_batches(
    sentences: Sentences,
    noise: NGram,
    *,
    batch_size: int,
    num_noise: int,
    seed: int,
    rows: range,
    start: int,
    stop: int,
    parts: int = 0,
) -> Iterator[Batch]:
    """Yields the batches of steps start .. stop - 1, each epoch in an order of its own.

    Args:
      batch_size: of all processes. rows: of the batch, that this one has.
      num_noise: noise sentences a row.
      parts: as of `batch_of`.
    """
    per_epoch = len(sentences) // batch_size
    order, of_epoch = None, -1
    for step in range(start, stop):
        epoch, place = divmod(step, per_epoch)
        if epoch != of_epoch:
            order, of_epoch = np.random.default_rng([seed, epoch]).permutation(len(sentences)), epoch
        chosen = order[place * batch_size + np.arange(rows.start, rows.stop)]
        yield batch_of(sentences, chosen, noise, num_noise, [(seed, step, row) for row in rows], parts)


def held_out_batches(
    sentences: Sentences, noise: NGram, *, batch_size: int, num_noise: int, rows: range, parts: int = 0
) -> Iterator[Batch]:
    """Yields each sentence once, with noise that is the same in every evaluation, whatever the batch."""
    for start in range(0, len(sentences), batch_size):
        chosen = start + np.arange(rows.start, rows.stop)
        yield batch_of(sentences, chosen, noise, num_noise, [(_HELD_OUT, index) for index in chosen], parts)


def lists_to_choose_from(
    sentences: Sentences,
    noise: NGram,
    frequencies: np.ndarray,
    *,
    num_lists: int,
    batch_size: int,
    rows: range,
    parts: int = 0,
) -> Iterator[Batch]:
    """Yields batches of lists (`candidates.py`), the sentence itself first in each.

    Args:
      frequencies: as of `candidates.copies`.
      num_lists: of how many sentences, spread evenly over the split.
    """
    of_list = candidates.spread(len(sentences), num_lists)
    for start in range(0, len(of_list), batch_size):
        place = start + np.arange(rows.start, rows.stop)
        is_real = place < len(of_list)
        chosen = of_list[np.where(is_real, place, 0)]
        words, lengths = sentences.words[chosen], sentences.lengths[chosen]
        texts = np.concatenate([words[:, None], candidates.copies(words, lengths, frequencies, chosen)], axis=1)
        yield _laid_out(sentences, texts, np.repeat(lengths[:, None], texts.shape[1], 1), is_real, noise, parts)


def batch_of(
    sentences: Sentences, chosen, noise: NGram, num_noise: int, keys: Sequence[tuple[int, ...]], parts: int = 0
) -> Batch:
    """Returns one batch of `data.batch.SENTENCE_COLUMNS`; rows of `chosen` behind the last sentence are padding.

    Args:
      keys: of each row, that its noise is drawn by.
      parts: into which the lines of the packed sentences are split, devices times microbatches; 0: not packed, where
        another process would have to know how many lines these are.
    """
    width = sentences.words.shape[1]
    is_real = chosen < len(sentences)
    place = np.where(is_real, chosen, 0)
    words, lengths = sentences.words[place][:, None], sentences.lengths[place][:, None]
    if num_noise:
        uniforms = np.stack([np.random.default_rng(key).random((num_noise, width)) for key in keys])
        drawn, drawn_lengths = noise.sample(uniforms.reshape(-1, width))
        words = np.concatenate([words, drawn.reshape(len(chosen), num_noise, width)], axis=1)
        lengths = np.concatenate([lengths, drawn_lengths.reshape(len(chosen), num_noise)], axis=1)
    return _laid_out(sentences, words, lengths, is_real, noise, parts)


def _laid_out(sentences: Sentences, words, lengths, is_real, noise: NGram, parts: int) -> Batch:
    """The columns of `words` [rows, texts, width] of `lengths` [rows, texts]."""
    rows, texts, width = words.shape
    batch = empty(SENTENCE_COLUMNS, rows, texts=texts, length=width + 1)
    batch["input_ids"][..., 0] = batch["next_ids"][..., -1] = sentences.end_id
    batch["input_ids"][..., 1:] = batch["next_ids"][..., :-1] = words
    batch["attention_mask"][:] = np.arange(width + 1) <= lengths[..., None]
    batch["log_noise"][:] = noise.log_q(words.reshape(-1, width), lengths.reshape(-1)).reshape(rows, texts)
    batch["example_mask"][:] = is_real
    if parts:
        multiple = lines.even_multiple(lengths.size, parts)
        batch["places"] = lines.packed(lengths.reshape(-1) + 1, width + 1, multiple)
    return batch
