"""The embedded default task: is this English sentence acceptable? Generated, so that a first run needs no download.

A demonstration, not a benchmark. Sentences come in minimal pairs, one acceptable and one not, in the manner of
BLiMP (Warstadt et al., 2020, https://aclanthology.org/2020.tacl-1.25), from the frames of `demo_grammar`: eleven
phenomena, most of them with the decisive words apart from each other. What keeps the task honest:

* a pair never has its sentences in different splits, and a sentence occurs once;
* a sequence of content words (lemmas, in text order) belongs to train or to dev by its hash, whatever the seed, so
  dev holds only combinations of frame and content words that never occur in train, though at the default sizes
  every word and every frame does;
* numbers and genders of the nouns in a sentence are independent, so words and word pairs say little: a linear
  classifier on them has about 60 % of dev right.
"""

import hashlib
import random
from collections.abc import Mapping
from typing import NamedTuple

from ml_collections import ConfigDict

from codir_jax.data.sets.contract import RawData
from codir_jax.data.sets.demo_grammar import FRAMES, LEXICON, Frame, realise, slot_kind
from codir_jax.data.splits import RawSplit
from codir_jax.processes.fields import MAX_SEED, field
from codir_jax.processes.user_error import UserError

LABEL_NAMES = ("unacceptable", "acceptable")
METRICS = ("matthews_correlation", "accuracy")
# One combination in six is dev's: large enough that 1000 dev sentences do not exhaust the frames with few slots.
_DEV_EVERY = 6
_TRIES_PER_PAIR = 2000


class Example(NamedTuple):
    """One sentence; `frame` numbers the frame within its phenomenon, `content` is its content lemmas in text order."""

    text: str
    label: int
    phenomenon: str
    frame: int
    content: tuple[str, ...]
    pair: int


# What only this task reads.
FIELDS = {
    # Even, because they come in pairs.
    "demo_num_train": field(12000, "train sentences of the demo, an even number", at_least=2, at_most=1_000_000),
    "demo_num_dev": field(1100, "dev sentences of the demo, an even number", at_least=2, at_most=1_000_000),
    # Not the seed of the run, so that runs share the data.
    "demo_seed": field(0, "which sentences of the demo are drawn", at_least=0, at_most=MAX_SEED),
}


def read(config: ConfigDict) -> RawData:
    """The splits train and dev."""
    generated = generate(config.demo_num_train, config.demo_num_dev, config.demo_seed)
    splits = {
        name: RawSplit([example.text for example in examples], None, [example.label for example in examples])
        for name, examples in generated.items()
    }
    return RawData(splits, LABEL_NAMES, False, METRICS)


def fresh_tokenizer(config: ConfigDict):
    """A WordPiece tokenizer of the train sentences' words."""
    from codir_jax.data import tokenizer_training

    return tokenizer_training.train_wordpiece(read(config).splits["train"].texts_a, vocab_size=2000)


def generate(
    num_train: int, num_dev: int, seed: int, lexicon: Mapping[str, tuple[str, ...]] = LEXICON
) -> dict[str, list[Example]]:
    """Train and dev examples, shuffled; half of each are acceptable and phenomena are equally frequent.

    Args:
      num_train: even number of train sentences.
      num_dev: even number of dev sentences.
      seed: what is drawn; the same seed gives the same sentences on every machine and Python version.
      lexicon: kind of a slot -> lemmas, of those of LEXICON.

    Raises:
      UserError: an odd or non-positive size, or more sentences than the grammar has.
    """
    for name, size in (("demo_num_train", num_train), ("demo_num_dev", num_dev)):
        if size <= 0 or size % 2:
            raise UserError(f"{name} counts sentences that come in pairs: expected a positive even number, got {size}")
    rng = random.Random(seed)
    seen: set[str] = set()
    # Dev first, so that a larger train set leaves dev as it is.
    splits = {
        name: _draw_split(rng, size // 2, name, seen, lexicon)
        for name, size in (("dev", num_dev), ("train", num_train))
    }
    return {"train": splits["train"], "dev": splits["dev"]}


def _draw_split(rng: random.Random, num_pairs: int, split: str, seen: set[str], lexicon) -> list[Example]:
    phenomena = list(FRAMES)
    examples = []
    for pair in range(num_pairs):
        phenomenon = phenomena[pair % len(phenomena)]
        good, bad, frame, content = _draw_pair(rng, phenomenon, split, seen, lexicon)
        examples.append(Example(good, 1, phenomenon, frame, content, pair))
        examples.append(Example(bad, 0, phenomenon, frame, content, pair))
    rng.shuffle(examples)
    return examples


def _draw_pair(
    rng: random.Random, phenomenon: str, split: str, seen: set[str], lexicon
) -> tuple[str, str, int, tuple[str, ...]]:
    """A new pair of sentences of one phenomenon whose content words belong to the split; both join `seen`."""
    for _ in range(_TRIES_PER_PAIR):
        index = rng.randrange(len(FRAMES[phenomenon]))
        frame = FRAMES[phenomenon][index]
        words = _draw_words(rng, frame, lexicon)
        content = tuple(words[slot] for slot in frame.slots)
        if (split == "dev") != is_dev(content):
            continue
        numbers = {name: rng.randrange(2) for name in "hde"}
        good, bad = realise(frame.acceptable, words, numbers), realise(frame.unacceptable, words, numbers)
        if good in seen or bad in seen:
            continue
        seen.update((good, bad))
        return good, bad, index, content
    raise UserError(f"the demo grammar has no more {split} sentences of {phenomenon!r}; lower data.demo_num_{split}")


def _draw_words(rng: random.Random, frame: Frame, lexicon) -> dict[str, str]:
    """slot -> lemma, no lemma twice, so that no two nouns of a sentence can be taken for one another."""
    words: dict[str, str] = {}
    for slot in frame.slots:
        kind = slot_kind(slot)
        taken = {words[other] for other in words if slot_kind(other) == kind}
        words[slot] = rng.choice([lemma for lemma in lexicon[kind] if lemma not in taken])
    return words


def is_dev(content: tuple[str, ...]) -> bool:
    """Whether a sequence of lemmas is dev's: one in six is."""
    # Not Python's hash(), which is salted per process. The frame is left out: two frames can share a sentence.
    digest = hashlib.blake2b(" ".join(content).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % _DEV_EVERY == 0
