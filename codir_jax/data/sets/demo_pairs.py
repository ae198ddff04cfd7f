"""The embedded default data of sentence encoders: pairs that mean the same, pairs that contradict, scored dev pairs.

A demonstration, not a benchmark. A sentence tells who did what to whom; it is said in several ways ("the king handed
the boy a map often", "a map was handed to the boy by the king many times"). Two ways of telling one thing are an
entailed pair, the same thing denied is a contradiction. Dev pairs tell things that have some of their words in common,
scored by the share of what they have in common: who is who is part of it, so that words alone do not give the score.
Who did what to whom belongs to train or to dev by its hash, so dev tells nothing that train tells.
"""

import random
from typing import NamedTuple

from ml_collections import ConfigDict

from codir_jax.data.sentence_rows import LABEL_NAMES, Triplet, rows
from codir_jax.data.sets.contract import RawData
from codir_jax.data.sets.demo import is_dev
from codir_jax.data.sets.demo_grammar import DITRANSITIVE, LEXICON, TRANSITIVE
from codir_jax.data.sets.sentence_pairs import METRICS
from codir_jax.data.splits import RawSplit
from codir_jax.processes.fields import field
from codir_jax.processes.user_error import UserError

TASK = "sentence_embedding"
HIGHEST_SCORE = 5.0
MANNER = {
    "quietly": ("quietly", "without a sound"),
    "often": ("often", "many times"),
    "suddenly": ("suddenly", "all at once"),
    "again": ("again", "once more"),
}
# With and without a thing that is given.
SAID = {
    False: (
        "the A S V the O M",
        "the O was V M by the A S",
        "it was the A S who V the O M",
        "M the A S V the O",
    ),
    True: (
        "the A S V the O a T M",
        "a T was V to the O M by the A S",
        "it was the A S who V a T to the O M",
        "M the O was V a T by the A S",
    ),
}
DENIED = {
    False: (
        "the A S never V the O",
        "the O was never V by the A S",
        "it is false that the A S V the O M",
        "nobody V the O M",
    ),
    True: (
        "the A S never V the O a T",
        "a T was never V to the O by the A S",
        "it is false that the A S V the O a T M",
        "nobody V a T to the O M",
    ),
}


class Proposition(NamedTuple):
    """Who did what to whom, by lemmas; `thing` is empty where nothing is given."""

    adjective: str
    subject: str
    verb: str
    object: str
    thing: str
    manner: str


# What only this set reads, beside `demo_seed`, which draws its sentences.
FIELDS = {
    # Each an anchor, one that means the same, and a contradiction.
    "demo_num_triplets": field(4000, "train triplets of the demo", at_least=1, at_most=1_000_000),
    "demo_num_scored": field(600, "dev pairs of the demo", at_least=1, at_most=1_000_000),
}


def read(config: ConfigDict) -> RawData:
    """The train split, two pairs a triplet where `data.layout` is "auto"."""
    _check(config)
    rng, told = random.Random(config.demo_seed), []
    for _ in range(config.demo_num_triplets):
        proposition = _draw(rng, "train")
        anchor, positive = (_say(rng, template, proposition) for template in rng.sample(_of(SAID, proposition), 2))
        told.append(Triplet(anchor, positive, _say(rng, rng.choice(_of(DENIED, proposition)), proposition)))
    return RawData(
        {"train": rows(told, "pairs" if config.layout == "auto" else config.layout)}, LABEL_NAMES, False, METRICS
    )


def scored(config: ConfigDict) -> dict[str, RawSplit]:
    """The dev split: pairs with 5 times the share of their parts that are the same, in the same role."""
    _check(config)
    rng, firsts, seconds, scores = random.Random(config.demo_seed + 1), [], [], []
    while len(firsts) < config.demo_num_scored:
        first = _draw(rng, "dev")
        second = _draw(rng, "dev", has_thing=bool(first.thing))
        if rng.random() < 0.2:  # the same words in other roles
            second = first._replace(subject=first.object, object=first.subject)
        else:
            kept = rng.sample(first._fields, rng.randrange(len(first) + 1))
            second = second._replace(**{name: getattr(first, name) for name in kept})
        if second.subject == second.object or not _is_dev(second):
            continue
        parts = [name for name in first._fields if getattr(first, name)]
        same = sum(getattr(first, name) == getattr(second, name) for name in parts)
        templates = rng.sample(_of(SAID, first), 2)
        firsts.append(_say(rng, templates[0], first))
        seconds.append(_say(rng, templates[1], second))
        scores.append(HIGHEST_SCORE * same / len(parts))
    return {"dev": RawSplit(firsts, None, scores, (seconds,))}


def fresh_tokenizer(config: ConfigDict):
    """A WordPiece tokenizer of the train sentences' words."""
    from codir_jax.data import tokenizer_training

    train = read(config).splits["train"]
    return tokenizer_training.train_wordpiece([text for texts in (train.texts_a, *train.apart) for text in texts], 2000)


def _check(config: ConfigDict) -> None:
    for name in ("demo_num_triplets", "demo_num_scored"):
        if config[name] < 2:
            raise UserError(f"data.{name} must be >= 2, got {config[name]}")


def _draw(rng: random.Random, split: str, has_thing: bool | None = None) -> Proposition:
    """A proposition whose parts but the adjective and the manner belong to the split."""
    while True:
        gives = rng.random() < 0.5 if has_thing is None else has_thing
        verb = rng.choice(LEXICON["ditransitive" if gives else "transitive"])
        subject, other = rng.sample(LEXICON["noun"], 2)
        thing = rng.choice(LEXICON["thing"]) if gives else ""
        drawn = Proposition(rng.choice(LEXICON["adjective"]), subject, verb, other, thing, rng.choice([*MANNER]))
        if _is_dev(drawn) == (split == "dev"):
            return drawn


def _is_dev(proposition: Proposition) -> bool:
    return is_dev((proposition.verb, proposition.subject, proposition.object, proposition.thing))


def _of(templates: dict[bool, tuple[str, ...]], proposition: Proposition) -> tuple[str, ...]:
    return templates[bool(proposition.thing)]


def _say(rng: random.Random, template: str, proposition: Proposition) -> str:
    _, past = (TRANSITIVE | DITRANSITIVE)[proposition.verb]
    words = {
        "A": proposition.adjective,
        "S": proposition.subject,
        "V": past,
        "O": proposition.object,
        "T": proposition.thing,
        "M": rng.choice(MANNER[proposition.manner]),
    }
    return " ".join(words.get(word, word) for word in template.split())
