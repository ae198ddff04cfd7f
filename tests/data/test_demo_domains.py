"""Four domains by their words, and no other difference between them."""

import collections

from ml_collections import ConfigDict

from codir_jax.data.sets import demo_domains
from codir_jax.data.sets.demo_grammar import LEXICON
from codir_jax.processes import fields


def test_domains_differ_in_their_words_and_half_of_its_sentences_are_acceptable():
    options = ConfigDict({"domains_num_train": 100, "domains_num_dev": 20, "domains_seed": 0, "domains_only": ""})
    raw = demo_domains.read(options)
    train = raw.splits["train"]
    counts = collections.Counter(zip(train.columns["domain_ids"], train.labels, strict=True))
    assert counts == {(number, label): 50 for number in range(4) for label in (0, 1)}
    assert len(raw.splits["dev"]) == 80
    words = {name: set() for name in demo_domains.DOMAINS}
    for number, text in zip(train.columns["domain_ids"], train.texts_a, strict=True):
        words[demo_domains.DOMAINS[int(number)]] |= set(text.split())
    nouns = {name: words[name] & set(LEXICON["noun"]) for name in words}
    castle, farm, harbour, school = demo_domains.DOMAINS
    assert nouns[castle] == nouns[harbour] and nouns[farm] == nouns[school]
    assert nouns[castle] and not nouns[castle] & nouns[farm]
    assert words[castle] != words[harbour]  # the verbs


def test_one_domain_alone_keeps_its_number_and_the_words_of_all():
    options = ConfigDict(fields.defaults(demo_domains.FIELDS))
    options.update({"domains_num_train": 100, "domains_num_dev": 20})
    every = demo_domains.read(options).splits["train"]
    vocabulary = demo_domains.fresh_tokenizer(options).get_vocab()
    options.domains_only = "harbour"
    alone = demo_domains.read(options).splits["train"]
    assert alone.texts_a == every.texts_a[200:300] and set(alone.columns["domain_ids"]) == {2.0}
    assert demo_domains.fresh_tokenizer(options).get_vocab() == vocabulary
    (fault,) = fields.faults({"domains_only": demo_domains.FIELDS["domains_only"]}, {"domains_only": "city"})
    assert "castle, farm, harbour, school" in fault
