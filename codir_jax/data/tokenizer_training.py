"""Tokenizers trained on the spot: WordPiece in BERT's layout, byte-level BPE in RoBERTa's."""

from __future__ import annotations

import collections
import heapq
import itertools
import tempfile
from collections.abc import Iterable

from codir_jax.processes.user_error import UserError

_WORDPIECE_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_ROBERTA_SPECIALS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
# Pieces are learned from the most frequent words: rarer ones of a huge corpus decide nothing, and cost the most.
_MAX_WORDS = 500_000
# Share of a text's words that its own vocabulary may leave unknown: of more a model learns little.
_MOST_UNKNOWN = 0.1


def train_wordpiece(texts: Iterable[str], vocab_size: int):
    """Returns a lower-casing WordPiece tokenizer in BERT's layout ([PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4).

    Args:
      texts: to learn the pieces from, one at a time.
      vocab_size: pieces at most, specials included; fewer where the texts do not have them.

    Returns:
      transformers PreTrainedTokenizerFast; the same texts give the same pieces and ids, in any order of the texts.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    normalizer = normalizers.BertNormalizer(lowercase=True)
    pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # The pre-tokenizer splits at white space and at punctuation: each word between spaces need be split only once.
    spaced: collections.Counter[str] = collections.Counter()
    for text in texts:
        spaced.update(normalizer.normalize_str(text).split())
    counts: dict[str, int] = {}
    for spaced_word, count in spaced.items():
        for word, _ in pre_tokenizer.pre_tokenize_str(spaced_word):
            counts[word] = counts.get(word, 0) + count
    if len(counts) > _MAX_WORDS:
        kept = heapq.nsmallest(_MAX_WORDS, counts, key=lambda word: (-counts[word], word))
        counts = {word: counts[word] for word in kept}
    pieces = _learn_pieces(counts, vocab_size - len(_WORDPIECE_SPECIALS))
    vocab = {piece: i for i, piece in enumerate([*_WORDPIECE_SPECIALS, *pieces])}
    backend = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]", continuing_subword_prefix="##"))
    backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizer
    backend.decoder = decoders.WordPiece(prefix="##")
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def train_byte_level_bpe(texts: Iterable[str], vocab_size: int):
    """Returns a byte-level BPE tokenizer in RoBERTa's layout (<s> 0, <pad> 1, </s> 2, <unk> 3, <mask> 4, then bytes).

    The trainer of `tokenizers` is deterministic here: its alphabet is the 256 bytes in order, and ids break ties.

    Args:
      texts: to learn the merges from, one at a time.
      vocab_size: pieces at most, specials and bytes included; fewer where the texts do not have them.

    Returns:
      transformers RobertaTokenizerFast; the same texts give the same merges and ids, in any order of the texts.

    Raises:
      UserError: vocab_size leaves no room for the bytes.
    """
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers
    from transformers import RobertaTokenizerFast

    smallest = len(_ROBERTA_SPECIALS) + 256
    if vocab_size < smallest:
        raise UserError(
            f"vocab_size {vocab_size} is too small for byte-level BPE: 256 bytes and {len(_ROBERTA_SPECIALS)} specials "
            f"need {smallest}"
        )
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(_ROBERTA_SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    with tempfile.TemporaryDirectory() as folder:
        # Read back from its files: that is how RobertaTokenizerFast puts the specials round a text.
        backend.model.save(folder)
        # The mask takes the space before it, as in roberta-base: it stands for a whole word.
        mask_token = AddedToken("<mask>", lstrip=True, special=True)
        return RobertaTokenizerFast.from_pretrained(folder, mask_token=mask_token)


def _learn_pieces(counts: dict[str, int], num_pieces: int) -> list[str]:
    """Returns the alphabet (most frequent first), then merged pieces in the order of merging.

    Byte-pair merging as the `tokenizers` trainer does it, written out because that trainer numbers "##" pieces as it
    meets them in a hash map and gives another vocabulary at every run (tokenizers 0.23.3). Ties are broken by the
    pieces' text.
    """
    words = sorted(counts)
    splits = [[word[0], *("##" + character for character in word[1:])] for word in words]
    alphabet: dict[str, int] = {}
    for word, pieces in zip(words, splits, strict=True):
        for piece in pieces:
            alphabet[piece] = alphabet.get(piece, 0) + counts[word]
    learned = sorted(alphabet, key=lambda piece: (-alphabet[piece], piece))[: max(num_pieces, 0)]
    known = set(learned)
    unknown = sum(counts[word] for word, pieces in zip(words, splits, strict=True) if not known.issuperset(pieces))
    if unknown > _MOST_UNKNOWN * sum(counts.values()):
        raise UserError(
            f"vocab_size={num_pieces + len(_WORDPIECE_SPECIALS)}: the text has {len(alphabet):,} different characters "
            f"(those within a word apart), and with the most frequent {len(learned):,} alone {unknown:,} of its "
            f"{sum(counts.values()):,} words are unknown; give {len(alphabet) + len(_WORDPIECE_SPECIALS):,} or more"
        )

    pair_counts: dict[tuple[str, str], int] = {}
    where: dict[tuple[str, str], set[int]] = {}
    for i, pieces in enumerate(splits):
        for pair in itertools.pairwise(pieces):
            pair_counts[pair] = pair_counts.get(pair, 0) + counts[words[i]]
            where.setdefault(pair, set()).add(i)
    # Entries of counts that have changed since are skipped when they come up.
    queue = [(-count, pair) for pair, count in pair_counts.items()]
    heapq.heapify(queue)
    while len(learned) < num_pieces and queue:
        count, best = heapq.heappop(queue)
        if pair_counts.get(best) != -count:
            continue
        merged = best[0] + best[1].removeprefix("##")
        if merged not in known:  # two pairs can make the same piece
            known.add(merged)
            learned.append(merged)
        changed: set[tuple[str, str]] = set()
        for i in where[best].copy():
            changed.update(itertools.pairwise(splits[i]))
            _count_pairs(splits[i], i, -counts[words[i]], pair_counts, where)
            splits[i] = _merge(splits[i], best, merged)
            _count_pairs(splits[i], i, counts[words[i]], pair_counts, where)
            changed.update(itertools.pairwise(splits[i]))
        for pair in changed:
            if pair in pair_counts:
                heapq.heappush(queue, (-pair_counts[pair], pair))
    return learned


def _count_pairs(pieces, word_index, count, pair_counts, where) -> None:
    for pair in itertools.pairwise(pieces):
        pair_counts[pair] = pair_counts.get(pair, 0) + count
        if count > 0:
            where.setdefault(pair, set()).add(word_index)
        else:
            where[pair].discard(word_index)
            if not pair_counts[pair]:
                del pair_counts[pair]


def _merge(pieces: list[str], pair: tuple[str, str], merged: str) -> list[str]:
    result: list[str] = []
    i = 0
    while i < len(pieces):
        if i + 1 < len(pieces) and (pieces[i], pieces[i + 1]) == pair:
            result.append(merged)
            i += 2
        else:
            result.append(pieces[i])
            i += 1
    return result
