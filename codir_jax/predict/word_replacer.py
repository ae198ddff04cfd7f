"""Copies of texts in which a masked language model put other words.

Of each copy a share of the words is masked, and each is drawn among the model's likeliest other words at its place: the
data augmentation of TinyBERT (Jiao et al., Findings of EMNLP 2020, section 3.2). There a word is masked by itself, at
the cost of a pass a word; here those of a copy are masked together, as a masked LM is trained, at that of a pass a
copy. Only words that are one token are replaced, by words that are one token.
"""

import collections
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from codir_jax.convert import pretrained
from codir_jax.data.length_buckets import LADDER
from codir_jax.evaluation import runner
from codir_jax.models.heads import build_model
from codir_jax.predict import masked_lm_scorer
from codir_jax.predict.sentence_reader import by_length, padded_length, padded_rows
from codir_jax.processes.user_error import UserError

# What marks the first token of a word in vocabularies of SentencePiece and of byte-level BPE; in those of WordPiece the
# other tokens are marked.
_STARTS, _CONTINUES = ("▁", "Ġ"), "##"


class Masked(NamedTuple):
    """A text, or a pair, as the model reads it, with the words of it that are replaced.

    Attributes:
      ids, types: int32 [tokens]. places: int [k], ascending, tokens that are masked.
      sides, spans: of each place the text, 0 or 1, and (begin, end) of its word in that.
    """

    ids: np.ndarray
    types: np.ndarray
    places: np.ndarray
    sides: list[int]
    spans: list[tuple[int, int]]


def load(path: str, *, batch_size: int = 32, share: float = 0.15, top: int = 15) -> "WordReplacer":
    """The masked LM in a folder with config.json, model.safetensors and tokenizer files, or of a hub name.

    Args:
      batch_size: texts that are run together. share: of the words that are replaced, above 0.
      top: the likeliest other words, among which is drawn.

    Raises:
      UserError: the folder is missing, damaged or without a masked-LM head, or its tokenizer tells no places of words.
    """
    scorer = masked_lm_scorer.load(path, batch_size=batch_size)
    if not getattr(scorer.tokenizer, "is_fast", False):
        raise UserError(f"the tokenizer of {path} does not tell where a word stands in a text; give one of tokenizers")
    return WordReplacer(scorer.source, scorer.tokenizer, batch_size, share, top)


@dataclasses.dataclass(frozen=True, eq=False)
class WordReplacer:
    """Attributes:
    source: the checkpoint. tokenizer: its tokenizer. batch_size, share, top: as of `load`.
    """

    source: pretrained.Pretrained
    tokenizer: Any
    batch_size: int
    share: float
    top: int

    @property
    def max_length(self) -> int:
        """Tokens that are read; words beyond them stay."""
        return min(self.source.config.max_length, LADDER[-1])

    def copy(self, rows: Sequence[tuple[str, ...]], seeds: Sequence[Sequence[int]]) -> list[tuple[str, ...]]:
        """A copy of each row, one or two texts, with other words; a row without a word to replace stays as it is.

        Args:
          seeds: of each row, whole numbers: what is drawn depends on them, and on nothing of the other rows.
        """
        streams = [np.random.default_rng(list(seed)) for seed in seeds]
        masked = [self._mask(row, encoding, rng) for row, encoding, rng in self._encoded(rows, streams)]
        copies = list(rows)
        with_places = [i for i, one in enumerate(masked) if len(one.places)]
        for part in by_length([len(masked[i].ids) for i in with_places], self.batch_size):
            numbers = [with_places[i] for i in part]
            words, chances = self._likeliest([masked[i] for i in numbers])
            runner.check_finite(chances, np.array(numbers))
            for i, ids, shares in zip(numbers, words, chances, strict=True):
                drawn = [
                    ids[k, streams[i].choice(self.top, p=shares[k] / shares[k].sum())]
                    for k in range(len(masked[i].places))
                ]
                copies[i] = self._put(rows[i], masked[i], drawn)
        return copies

    def _encoded(self, rows, streams):
        columns = [list(column) for column in zip(*rows, strict=True)]
        encoded = self.tokenizer(*columns, truncation=True, max_length=self.max_length)
        return zip(rows, encoded.encodings, streams, strict=True)

    def _mask(self, row, encoding, rng: np.random.Generator) -> Masked:
        """Draws the words that are masked, one at least where there is one."""
        words = list(zip(encoding.sequence_ids, encoding.word_ids, strict=True))
        tokens_of = collections.Counter(words)
        places, sides, spans = [], [], []
        for place, (side, word) in enumerate(words):
            begin, end = encoding.offsets[place]
            if side is None or word is None or tokens_of[side, word] > 1 or not self._is_word[encoding.ids[place]]:
                continue
            begin += len(row[side][begin:end]) - len(row[side][begin:end].lstrip())
            if row[side][begin:end].isalpha():
                places.append(place), sides.append(side), spans.append((begin, end))
        drawn = np.flatnonzero(rng.random(len(places)) < self.share)
        if places and not len(drawn):
            drawn = rng.integers(len(places), size=1)
        ids, types = (np.array(values, np.int32) for values in (encoding.ids, encoding.type_ids))
        return Masked(ids, types, np.array(places, int)[drawn], [sides[i] for i in drawn], [spans[i] for i in drawn])

    def _likeliest(self, texts: Sequence[Masked]) -> tuple[np.ndarray, np.ndarray]:
        """(ids int [n, places, top], their probabilities) of other words, the likeliest first."""
        num_rows = padded_rows(len(texts), self.batch_size)
        length = min(padded_length(max(len(text.ids) for text in texts)), self.max_length)
        num_places = 1 << (max(len(text.places) for text in texts) - 1).bit_length()
        inputs = np.full((num_rows, length), self.tokenizer.pad_token_id, np.int32)
        mask, types = np.zeros_like(inputs), np.zeros_like(inputs)
        at, own = (np.zeros((num_rows, num_places), np.int32) for _ in range(2))
        for i, text in enumerate(texts):
            size, count = len(text.ids), len(text.places)
            inputs[i, :size], types[i, :size], mask[i, :size] = text.ids, text.types, 1
            own[i, :count], at[i, :count] = text.ids[text.places], text.places
            inputs[i, text.places] = self.tokenizer.mask_token_id
        found = self._run(self._params, inputs, mask, types, at, own)
        return tuple(np.asarray(values)[: len(texts)] for values in found)

    def _put(self, row: tuple[str, ...], masked: Masked, drawn: Sequence[int]) -> tuple[str, ...]:
        """The row with the drawn words in the place of its own, in upper case as those are."""
        texts = list(row)
        for side, (begin, end), token in reversed(list(zip(masked.sides, masked.spans, drawn, strict=True))):
            old, new = texts[side][begin:end], self._forms[token]
            if old.isupper() and len(old) > 1:
                new = new.upper()
            elif old[0].isupper():
                new = new[0].upper() + new[1:]
            texts[side] = texts[side][:begin] + new + texts[side][end:]
        return tuple(texts)

    @functools.cached_property
    def _tokens(self) -> list[str | None]:
        return self.tokenizer.convert_ids_to_tokens(list(range(self.source.config.vocab_size)))

    @functools.cached_property
    def _forms(self) -> list[str]:
        """Each token of the vocabulary as it stands in a text."""
        return [self.tokenizer.convert_tokens_to_string([token]).strip() if token else "" for token in self._tokens]

    @functools.cached_property
    def _is_word(self) -> np.ndarray:
        """Whether a token of the vocabulary is a whole word of two letters or more, bool [vocabulary]."""
        has_starts = any(token and token.startswith(_STARTS) for token in self._tokens)
        starts = [
            bool(token) and (token.startswith(_STARTS) if has_starts else not token.startswith(_CONTINUES))
            for token in self._tokens
        ]
        is_word = np.array([s and f.isalpha() and len(f) > 1 for s, f in zip(starts, self._forms, strict=True)])
        is_word[[one for one in self.tokenizer.all_special_ids if one < len(is_word)]] = False
        if is_word.sum() <= self.top:
            raise UserError(f"the vocabulary has {is_word.sum()} whole words; top={self.top} must be below that")
        return is_word

    @functools.cached_property
    def _params(self):
        return jax.device_put(self.source.params)

    @functools.cached_property
    def _run(self):
        module = build_model(self.source.config, "masked_lm")
        may_stand = jnp.asarray(self._is_word)

        def run(params, inputs, mask, types, at, own):
            logits = module.apply({"params": params}, inputs, mask, types, positions=at).logits
            is_other = may_stand & (jnp.arange(logits.shape[-1]) != own[..., None])
            chances, ids = jax.lax.top_k(jax.nn.softmax(jnp.where(is_other, logits, -jnp.inf)), self.top)
            return ids, chances

        return jax.jit(run)
