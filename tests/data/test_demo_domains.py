"""Four domains by their words, and no other difference between them."""

import collections

from ml_collections import ConfigDict

from codir_jax.data.sets import demo_domains
from codir_jax.data.sets.demo_grammar import LEXICON


def test_domains_differ_in_their_words_and_half_of_its_sentences_are_acceptable():
    options = ConfigDict({"domains_num_train": 100, "domains_num_dev": 20, "domains_seed": 0})
    raw = demo_domains.read(options)
    train = raw.splits["train"]
    counts = collections.Counter(zip(train.columns["domain_ids"], train.labels, strict=True))
    assert counts == {(name, label): 50 for name in demo_domains.DOMAINS for label in (0, 1)}
    assert len(raw.splits["dev"]) == 80
    words = {name: set() for name in demo_domains.DOMAINS}
    for name, text in zip(train.columns["domain_ids"], train.texts_a, strict=True):
        words[name] |= set(text.split())
    nouns = {name: words[name] & set(LEXICON["noun"]) for name in words}
    castle, farm, harbour, school = demo_domains.DOMAINS
    assert nouns[castle] == nouns[harbour] and nouns[farm] == nouns[school]
    assert nouns[castle] and not nouns[castle] & nouns[farm]
    assert words[castle] != words[harbour]  # the verbs
