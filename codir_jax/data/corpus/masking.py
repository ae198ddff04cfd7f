"""Dynamic masking (BERT section 3.1, RoBERTa section 4.1): a function of (seed, epoch, chunk), of nothing else.

    number of a chunk = max(1, round(rate * tokens that may be masked))
    each of them: the mask token with 0.8, a random token with 0.1, itself with 0.1

So masks are the same after a resume and on any number of processes, and new in each epoch. Special tokens are never
masked and never a random replacement. Whole words (BERT's released "whole word masking"): words in random order, each
masked whole as long as the number is not exceeded.
"""

from __future__ import annotations

import dataclasses
import json

import numpy as np

from codir_jax.data.corpus.shards import NUM_SPECIAL

_MASK_SHARE, _RANDOM_SHARE = 0.8, 0.1


@dataclasses.dataclass(frozen=True, eq=False)
class Masking:
    """What masking knows of a vocabulary.

    Attributes:
      rate: share of the tokens that are masked.
      whole_word: mask all pieces of a word or none.
      mask_token_id: id.
      is_special: bool [vocab], ids that are never masked.
      is_word_start: bool [vocab], pieces that begin a word ("##" does not in WordPiece; in byte-level BPE "Ġ" does).
      replacements: int32 [k], ids that a random replacement is drawn from.
    """

    rate: float
    whole_word: bool
    mask_token_id: int
    is_special: np.ndarray
    is_word_start: np.ndarray
    replacements: np.ndarray


def masking_of(tokenizer, *, rate: float, whole_word: bool) -> Masking:
    """Returns the Masking of a fast transformers tokenizer with a mask token."""
    vocab = tokenizer.get_vocab()
    size = max(len(tokenizer), 1 + max(vocab.values()))
    is_known = np.zeros(size, bool)
    is_word_start = np.zeros(size, bool)
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    prefix = model.get("continuing_subword_prefix") or "##"
    is_wordpiece = model["type"] == "WordPiece"
    for piece, number in vocab.items():
        is_known[number] = True
        # "Ġ" is the space of byte-level BPE, "▁" that of sentencepiece vocabularies.
        is_word_start[number] = not piece.startswith(prefix) if is_wordpiece else piece.startswith(("Ġ", "▁"))
    is_special = np.zeros(size, bool)
    is_special[list(tokenizer.all_special_ids)] = True
    return Masking(
        rate=rate,
        whole_word=whole_word,
        mask_token_id=int(tokenizer.mask_token_id),
        is_special=is_special,
        is_word_start=is_word_start,
        replacements=np.flatnonzero(is_known & ~is_special).astype(np.int32),
    )


def masked_slots(config) -> int:
    """Returns the masked positions that a row has room for; `config` is the data section."""
    return num_masked(config.max_length - NUM_SPECIAL, config.mask_rate)


def num_masked(num_maskable: int, rate: float) -> int:
    """Returns how many of so many tokens are masked: one at least, none of none."""
    return max(1, round(rate * num_maskable)) if num_maskable else 0


def generator(seed: int, epoch: int, chunk: int) -> np.random.Generator:
    """Returns the random numbers of one chunk in one epoch."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, epoch, chunk])))


def mask(tokens: np.ndarray, rng: np.random.Generator, masking: Masking) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns a chunk with some tokens hidden, and what they were.

    Args:
      tokens: int32 [length], specials included.
      rng: see `generator`.
      masking: rate and vocabulary.

    Returns:
      (tokens after masking int32 [length], positions int32 [k] ascending, labels int32 [k] = tokens[positions]).
    """
    maskable = np.flatnonzero(~masking.is_special[tokens])
    count = num_masked(len(maskable), masking.rate)
    if masking.whole_word:
        positions = _draw_words(tokens, maskable, count, rng, masking)
    else:
        positions = rng.choice(maskable, count, replace=False, shuffle=False)
    positions = np.sort(positions).astype(np.int32)
    labels = tokens[positions]
    kind = rng.random(len(positions))
    drawn = masking.replacements[rng.integers(len(masking.replacements), size=len(positions))]
    hidden = np.where(
        kind < _MASK_SHARE, masking.mask_token_id, np.where(kind < _MASK_SHARE + _RANDOM_SHARE, drawn, labels)
    )
    masked = tokens.copy()
    masked[positions] = hidden
    return masked, positions, labels


def _draw_words(tokens, maskable, count, rng, masking: Masking) -> np.ndarray:
    """Positions of words in random order while they fit; where not one fits, the beginning of the first."""
    if not count:
        return maskable
    # A word goes on only behind the very next position: a special token ends it.
    begins = masking.is_word_start[tokens[maskable]] | (np.diff(maskable, prepend=-2) > 1)
    bounds = np.append(np.flatnonzero(begins), len(maskable))
    order = rng.permutation(len(bounds) - 1)
    drawn: list[np.ndarray] = []
    left = count
    for word in order:
        size = bounds[word + 1] - bounds[word]
        if size <= left:
            drawn.append(maskable[bounds[word] : bounds[word + 1]])
            left -= size
            if not left:
                break
    if not drawn:
        start = bounds[order[0]]
        return maskable[start : start + count]
    return np.concatenate(drawn)
