"""Four domains by their words, and no other difference between them."""

import collections

from codir_jax.data.sets import demo_domains
from codir_jax.data.sets.demo_grammar import LEXICON


def test_each_domain_has_nouns_of_its_own_and_half_of_its_sentences_are_acceptable():
    options = demo_domains.default_config()
    options.update({"domains_num_train": 100, "domains_num_dev": 20})
    raw = demo_domains.read(options)
    train = raw.splits["train"]
    counts = collections.Counter(zip(train.columns["domain_ids"], train.labels, strict=True))
    assert counts == {(name, label): 50 for name in demo_domains.DOMAINS for label in (0, 1)}
    assert len(raw.splits["dev"]) == 80
    words = {name: set() for name in demo_domains.DOMAINS}
    for name, text in zip(train.columns["domain_ids"], train.texts_a, strict=True):
        words[name] |= set(text.split())
    nouns = set(LEXICON["noun"])
    for i, one in enumerate(demo_domains.DOMAINS):
        for other in demo_domains.DOMAINS[i + 1 :]:
            assert not words[one] & words[other] & nouns
