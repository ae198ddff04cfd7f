"""The sentences of `demo` in four domains: each has one half of the nouns and things, one half of the verbs, and all
other words.

A demonstration. A domain is told by its words alone, and whether a sentence is acceptable by none of them. Every text
weighs 1: weights are made by an encoder (`codir weigh`).
"""

from ml_collections import ConfigDict

from codir_jax.data.sets import demo
from codir_jax.data.sets.contract import RawData
from codir_jax.data.sets.demo_grammar import LEXICON
from codir_jax.data.splits import RawSplit
from codir_jax.processes.fields import MAX_SEED, field
from codir_jax.processes.user_error import UserError

DOMAINS = ("castle", "farm", "harbour", "school")
# Kinds of words of which a domain has one half: by the first bit of its number, and by the second.
NAMES_OF_THINGS = ("noun", "thing")
VERBS = ("intransitive", "transitive", "ditransitive", "clausal")


# What only this set reads.
FIELDS = {
    "domains_num_train": field(3000, "train sentences of each domain, an even number", at_least=2, at_most=1_000_000),
    "domains_num_dev": field(200, "dev sentences of each domain, an even number", at_least=2, at_most=1_000_000),
    "domains_seed": field(0, "which sentences are drawn, not the seed of the run", at_least=0, at_most=MAX_SEED),
    "domains_only": field("", "the sentences of this domain alone; empty: all", words=("", *DOMAINS)),
}


def read(config: ConfigDict) -> RawData:
    """The splits train and dev, domain by domain; `domain_ids` are places in DOMAINS."""
    for name in ("domains_num_train", "domains_num_dev"):
        if config[name] <= 0 or config[name] % 2:
            raise UserError(
                f"data.{name} counts sentences in pairs: expected a positive even number, got {config[name]}"
            )
    splits = {}
    drawn = [
        demo.generate(config.domains_num_train, config.domains_num_dev, config.domains_seed + i, _lexicon(i))
        for i in range(len(DOMAINS))
    ]
    for split in ("train", "dev"):
        rows = [
            (number, row)
            for number, examples in enumerate(drawn)
            for row in examples[split]
            if config.domains_only in ("", DOMAINS[number])
        ]
        columns = {"domain_ids": [float(number) for number, _ in rows], "example_weights": [1.0] * len(rows)}
        splits[split] = RawSplit([row.text for _, row in rows], None, [row.label for _, row in rows], columns=columns)
    return RawData(splits, demo.LABEL_NAMES, False, ("accuracy", *demo.METRICS[:1]))


def fresh_tokenizer(config: ConfigDict):
    """A WordPiece tokenizer of the words of all domains."""
    from codir_jax.data import tokenizer_training

    config = config.copy_and_resolve_references()
    config.domains_only = ""
    return tokenizer_training.train_wordpiece(read(config).splits["train"].texts_a, vocab_size=2000)


def _lexicon(number: int) -> dict[str, tuple[str, ...]]:
    """The words of a domain: every second one of its kinds."""
    own = {kind: LEXICON[kind][number % 2 :: 2] for kind in NAMES_OF_THINGS}
    return dict(LEXICON) | own | {kind: LEXICON[kind][number // 2 :: 2] for kind in VERBS}
