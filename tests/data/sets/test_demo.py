"""The demo task is balanced, its splits share no combination, its labels follow from structure and not from words."""

import collections
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from codir_jax.data.sets import demo
from codir_jax.data.sets.demo_grammar import FRAMES

SIZES = (demo.FIELDS["demo_num_train"].default, demo.FIELDS["demo_num_dev"].default)


@pytest.fixture(scope="module")
def splits():
    return demo.generate(*SIZES, seed=0)


def test_labels_are_balanced_and_each_pair_lies_in_one_split(splits):
    for name, size in zip(("train", "dev"), SIZES, strict=True):
        examples = splits[name]
        assert len(examples) == size and sum(example.label for example in examples) == size // 2
        pairs = collections.defaultdict(list)
        for example in examples:
            pairs[example.pair].append(example)
        for good, bad in (sorted(pair, key=lambda example: -example.label) for pair in pairs.values()):
            assert (good.label, bad.label) == (1, 0) and good.text != bad.text
            assert good[2:] == bad[2:], "a pair is of one frame and one combination of words"


def test_no_sentence_occurs_twice(splits):
    texts = [example.text for examples in splits.values() for example in examples]
    assert len(texts) == len(set(texts))


def test_no_content_word_occurs_twice_in_a_sentence(splits):
    # Two equal nouns would leave open which of them an agreement is with.
    assert all(len(set(e.content)) == len(e.content) for examples in splits.values() for e in examples)


def test_train_and_dev_share_no_combination_whatever_the_seeds(splits):
    other = demo.generate(400, 200, seed=7)
    for train in (splits["train"], other["train"]):
        for dev in (splits["dev"], other["dev"]):
            assert not {example.content for example in train} & {example.content for example in dev}
    assert {e.text for e in other["dev"]} != {e.text for e in splits["dev"]}


def test_every_word_and_every_frame_of_dev_occurs_in_train(splits):
    def words(examples):
        return {word for example in examples for word in example.text.split()}

    def frames(examples):
        return {(example.phenomenon, example.frame) for example in examples}

    assert words(splits["dev"]) <= words(splits["train"])
    every_frame = {(name, index) for name, group in FRAMES.items() for index in range(len(group))}
    assert frames(splits["dev"]) == frames(splits["train"]) == every_frame


def test_at_least_eight_phenomena_are_equally_frequent(splits):
    counts = collections.Counter(example.phenomenon for example in splits["dev"])
    assert set(counts) == set(FRAMES) and len(counts) >= 8
    assert max(counts.values()) - min(counts.values()) <= 2


def test_a_larger_train_set_leaves_dev_as_it_is():
    assert demo.generate(100, 60, seed=3)["dev"] == demo.generate(200, 60, seed=3)["dev"]


def test_sentences_do_not_depend_on_the_process():
    code = "from codir_jax.data.sets.demo import generate; print([e.text for e in generate(40, 20, 1)['train']])"
    root = str(Path(__file__).resolve().parents[3])
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": salt, "PYTHONPATH": root},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for salt in ("1", "2")
    ]
    assert outputs[0] == outputs[1] == str([e.text for e in demo.generate(40, 20, 1)["train"]])


def test_words_and_word_pairs_do_not_give_the_label_away(splits):
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    train, dev = ([f"^ {example.text} $" for example in splits[name]] for name in ("train", "dev"))
    labels = {name: [example.label for example in examples] for name, examples in splits.items()}
    for largest, bound in ((1, 0.58), (2, 0.65)):
        vectorizer = CountVectorizer(ngram_range=(1, largest), token_pattern=r"\S+")
        model = LogisticRegression(C=0.3, max_iter=400).fit(vectorizer.fit_transform(train), labels["train"])
        assert model.score(vectorizer.transform(dev), labels["dev"]) < bound


def test_the_agreement_labels_follow_from_the_text(splits):
    checked = 0
    for example in splits["train"] + splits["dev"]:
        if example.phenomenon.startswith(("agreement_", "anaphor_", "determiner_")):
            assert _Parser(example.text).is_acceptable() == bool(example.label), example
            checked += 1
    assert checked > sum(SIZES) * 0.4


def test_read_gives_raw_splits_and_what_the_dataset_needs_to_know():
    config = ConfigDict({"demo_num_train": 60, "demo_num_dev": 20, "demo_seed": 0})
    raw, label_names, is_regression, metrics, _ = demo.read(config)
    assert list(raw) == ["train", "dev"] and len(raw["train"].texts_a) == 60
    assert raw["dev"].texts_b is None and set(raw["dev"].labels) == {0, 1}
    assert label_names == ("unacceptable", "acceptable") and not is_regression
    assert metrics[0] == "matthews_correlation"


def test_impossible_sizes_are_told():
    with pytest.raises(ValueError, match=r"demo_num_train .* positive even number, got 7"):
        demo.generate(7, 2, 0)
    with pytest.raises(ValueError, match=r"demo_num_dev .* got 0"):
        demo.generate(2, 0, 0)


class _Parser:
    """A second opinion that shares nothing with the generator: parses the sentence and checks every agreement in it.

    A noun phrase is (number, gender), number 0 or 1; each rule reads tokens from the left and notes any disagreement.
    """

    MASCULINE = ("boy", "king", "uncle", "monk", "man")
    FEMININE = ("girl", "queen", "aunt", "nun", "woman")
    TRANSITIVE = ("admire", "follow", "praise", "blame", "trust", "describe")
    INTRANSITIVE = ("sleep", "laugh", "smile", "arrive", "faint", "cough")
    PAST_INTRANSITIVE = ("slept", "laughed", "smiled", "arrived", "fainted", "coughed")
    PAST_TRANSITIVE = ("admired", "followed", "praised", "blamed", "trusted", "described")
    PAST_CLAUSAL = ("knew", "remembered", "noticed", "forgot")
    SINGULAR_DETERMINERS = ("this", "every", "each")
    PLURAL_DETERMINERS = ("these", "several", "many")
    PREPOSITIONS = ("near", "behind", "beside", "opposite")
    SKIPPED = ("old", "tall", "kind", "proud", "clever", "quietly", "often", "suddenly", "again")
    REFLEXIVES: dict = {"himself": (0, "m"), "herself": (0, "f"), "themselves": (1, None)}  # noqa: RUF012

    def __init__(self, text):
        # Adjectives and adverbs never matter for agreement.
        self.tokens = [token for token in text.split() if token not in self.SKIPPED] + ["$"]
        self.agrees = True

    def is_acceptable(self):
        if self.tokens[0] in ("when", "because", "although", "after"):
            self.tokens.pop(0)
            self.clause()
        self.clause()
        assert self.tokens == ["$"], f"left over: {self.tokens}"
        return self.agrees

    def clause(self):
        self.verb_phrase(self.noun_phrase())

    def noun_phrase(self):
        head = self.simple_noun_phrase()
        while self.tokens[0] in self.PREPOSITIONS:
            self.tokens.pop(0)
            self.simple_noun_phrase()
        if self.tokens[0] == "and":
            self.tokens.pop(0)
            self.simple_noun_phrase()
            head = (1, None)
        if self.tokens[0] == "who":
            self.tokens.pop(0)
            self.verb_phrase(head)
        elif self.tokens[0] == "that":
            self.tokens.pop(0)
            subject = self.noun_phrase()
            self.verb(subject, self.TRANSITIVE, self.PAST_TRANSITIVE)  # its object is the head
        return head

    def simple_noun_phrase(self):
        determiner, noun = self.tokens.pop(0), self.tokens.pop(0)
        singular = {"men": "man", "women": "woman"}.get(noun, noun.removesuffix("s"))
        number = int(singular != noun)
        assert singular in self.MASCULINE + self.FEMININE, noun
        if determiner != "the":
            assert determiner in self.SINGULAR_DETERMINERS + self.PLURAL_DETERMINERS, determiner
            self.agrees &= number == int(determiner in self.PLURAL_DETERMINERS)
        return number, "m" if singular in self.MASCULINE else "f"

    def verb_phrase(self, subject):
        if self.tokens[0] in self.PAST_CLAUSAL:
            self.tokens.pop(0)
            assert self.tokens.pop(0) == "that"
            self.clause()
        elif self.tokens[0].removesuffix("s") in self.INTRANSITIVE or self.tokens[0] in self.PAST_INTRANSITIVE:
            self.verb(subject, self.INTRANSITIVE, self.PAST_INTRANSITIVE)
        else:
            self.verb(subject, self.TRANSITIVE, self.PAST_TRANSITIVE)
            if self.tokens[0] in self.REFLEXIVES:
                number, gender = self.REFLEXIVES[self.tokens.pop(0)]
                self.agrees &= number == subject[0] and gender in (None, subject[1])
            else:
                self.noun_phrase()

    def verb(self, subject, stems, past):
        verb = self.tokens.pop(0)
        if verb not in past:
            assert verb.removesuffix("s") in stems, verb
            self.agrees &= (verb in stems) == (subject[0] == 1)
