"""The words and sentence frames of the demo task: minimal pairs of English, one acceptable and one not.

A frame is two templates over the same slots. `{noun1:h}` is the first noun slot in the number of the variable h; h, d
and e are drawn anew for every pair (0 singular, 1 plural), `-h` is the other number, `s` and `p` are fixed. Verbs take
the same letters for the present tense, `ed` for the past (also the participle: every verb that needs one has one form
for both) and `base`. `{self1:h}` is the reflexive that refers to noun1, `{self1:x}` the singular one of the other
gender.

The two sentences of a pair have nearly the same words and local transitions, so that structure tells them apart: each
number is drawn on its own, verbs are swapped between clauses, licensors moved, and frames are paired so that what is
wrong in one is right in another. The words are few, so that a tiny model without pretraining learns them in minutes.
"""

import re
from typing import NamedTuple

# lemma -> (singular, plural); masculine and feminine so that "himself" and "herself" are decidable.
MASCULINE = {w: (w, w + "s") for w in ("boy", "king", "uncle")} | {"man": ("man", "men")}
FEMININE = {w: (w, w + "s") for w in ("girl", "queen", "aunt")} | {"woman": ("woman", "women")}
THINGS = {w: (w, w + "s") for w in ("book", "letter", "map", "coin", "cake", "ring")}
# lemma = plural present = base form -> (third person singular, past and participle)
INTRANSITIVE = {
    "sleep": ("sleeps", "slept"),
    "laugh": ("laughs", "laughed"),
    "smile": ("smiles", "smiled"),
    "arrive": ("arrives", "arrived"),
    "faint": ("faints", "fainted"),
}
TRANSITIVE = {
    "admire": ("admires", "admired"),
    "follow": ("follows", "followed"),
    "praise": ("praises", "praised"),
    "blame": ("blames", "blamed"),
    "trust": ("trusts", "trusted"),
}
DITRANSITIVE = {
    "send": ("sends", "sent"),
    "lend": ("lends", "lent"),
    "hand": ("hands", "handed"),
    "offer": ("offers", "offered"),
}
# Verbs that take both "that the girl slept" and "what the girl followed".
CLAUSAL = {
    "know": ("knows", "knew"),
    "remember": ("remembers", "remembered"),
    "notice": ("notices", "noticed"),
    "forget": ("forgets", "forgot"),
}
DETERMINER = {"this": ("this", "these"), "every": ("every", "several")}
PREPOSITION = ("near", "behind", "beside", "opposite")
ADJECTIVE = ("old", "tall", "kind", "proud", "clever")
MANNER = ("quietly", "often", "suddenly", "again")
MODAL = ("can", "will", "must", "should")
CONJUNCTION = ("when", "because", "although", "after")

LEXICON: dict[str, tuple[str, ...]] = {
    "noun": (*MASCULINE, *FEMININE),
    "thing": tuple(THINGS),
    "intransitive": tuple(INTRANSITIVE),
    "transitive": tuple(TRANSITIVE),
    "ditransitive": tuple(DITRANSITIVE),
    "clausal": tuple(CLAUSAL),
    "determiner": tuple(DETERMINER),
    "preposition": PREPOSITION,
    "adjective": ADJECTIVE,
    "manner": MANNER,
    "modal": MODAL,
    "conjunction": CONJUNCTION,
}
_NUMBERED = MASCULINE | FEMININE | THINGS | DETERMINER
_VERBS = INTRANSITIVE | TRANSITIVE | DITRANSITIVE | CLAUSAL
_SLOT = re.compile(r"\{([a-z]+)(\d?)(?::([-a-z]+))?\}")


class Frame(NamedTuple):
    """An acceptable and an unacceptable template; `slots` lists those of both, the acceptable one's order first."""

    phenomenon: str
    acceptable: str
    unacceptable: str

    @property
    def slots(self) -> tuple[str, ...]:
        both = _SLOT.findall(self.acceptable + self.unacceptable)
        found = [kind + index for kind, index, _ in both if kind != "self"]
        return tuple(dict.fromkeys(found))


def slot_kind(slot: str) -> str:
    """`noun2` -> `noun`, the key of LEXICON."""
    return slot.rstrip("0123456789")


def realise(template: str, words: dict[str, str], numbers: dict[str, int]) -> str:
    """The sentence of a template.

    Args:
      template: one of a Frame's.
      words: slot -> lemma.
      numbers: h, d, e -> 0 (singular) or 1 (plural).
    """

    def number_of(feature: str) -> int:
        if feature in ("s", "p"):
            return int(feature == "p")
        return 1 - numbers[feature[1]] if feature[0] == "-" else numbers[feature]

    def word_of(match: re.Match) -> str:
        kind, index, feature = match.groups()
        if kind == "self":
            is_masculine = (words["noun" + index] in MASCULINE) != (feature == "x")
            is_plural = feature != "x" and number_of(feature)
            return "themselves" if is_plural else "himself" if is_masculine else "herself"
        lemma = words[kind + index]
        if feature is None or feature == "base":
            return lemma
        if lemma in _VERBS:
            singular, past = _VERBS[lemma]
            return past if feature == "ed" else (singular, lemma)[number_of(feature)]
        return _NUMBERED[lemma][number_of(feature)]

    return _SLOT.sub(word_of, template)


# N1 the noun in number h and so on: the templates below stay one line long.
_SHORT = {
    "N": "noun",
    "O": "thing",
    "I": "intransitive",
    "T": "transitive",
    "D": "ditransitive",
    "C": "clausal",
    "Q": "determiner",
    "P": "preposition",
    "A": "adjective",
    "M": "manner",
    "X": "modal",
    "J": "conjunction",
    "S": "self",
}


def _expand(template: str) -> str:
    """`the N1:h P1 the N2:d I1:h` -> `the {noun1:h} {preposition1} the {noun2:d} {intransitive1:h}`."""
    return re.sub(r"\b([A-Z])(\d(?::[-a-z]+)?)", lambda m: "{" + _SHORT[m[1]] + m[2] + "}", template)


def _frames(phenomenon: str, *pairs: tuple[str, str]) -> tuple[Frame, ...]:
    return tuple(Frame(phenomenon, _expand(good), _expand(bad)) for good, bad in pairs)


def _flipped(template: str, *, at: str) -> tuple[str, str]:
    """The template and its partner, in which the one slot `at` has the other number."""
    slot, feature = at.split(":")
    other = {"s": "p", "p": "s"}.get(feature, "-" + feature)
    return template, template.replace(at, f"{slot}:{other}")


# In the first two frames of three phenomena the number is fixed, so that there the noun alone tells the label: from
# these a model without pretraining can learn the number of each noun. A grammar with fewer of them (and two more nouns)
# had agreement near chance after 1500 steps; which of the two changes helped was not tried apart.
FRAMES: dict[str, tuple[Frame, ...]] = {
    # The verb agrees with the head, not with the nouns in between (whose numbers are free).
    "agreement_prepositional": _frames(
        "agreement_prepositional",
        _flipped("the A1 N1:p I1:p", at="N1:p"),
        _flipped("the A1 N1:p T1:p the N2:d", at="N1:p"),
        _flipped("the N1:h M1 I1:h", at="I1:h"),
        _flipped("the N1:h P1 the N2:d I1:h", at="I1:h"),
        _flipped("the N1:h P1 the N2:d P2 the N3:e I1:h", at="I1:h"),
        _flipped("J1 the N1:h P1 the N2:d I1:h the N3:e T1:e the N4:d", at="I1:h"),
        _flipped("J1 the N1:d I1:d the N2:h P1 the N3:e T1:h the N4:d", at="T1:h"),
    ),
    "agreement_relative": _frames(
        "agreement_relative",
        _flipped("the N1:h who T1:h the N2:d I1:h", at="I1:h"),
        _flipped("the N1:h who T1:h the N2:d I1:h", at="T1:h"),
        _flipped("the N1:h that the N2:d T1:d I1:h", at="I1:h"),
        _flipped("the N1:h that the N2:d P1 the N3:e T1:d I1:h", at="T1:d"),
        _flipped("the N1:h that the N2:d P1 the N3:e T1:d I1:h", at="I1:h"),
        _flipped("the N1:h that the N2:d who T1:d the N3:e T2:d I1:h", at="T2:d"),
        _flipped("the N1:h that the N2:d who T1:d the N3:e T2:d I1:h", at="I1:h"),
    ),
    # "the boy and the girl" is plural; inside a relative clause it is not the subject of the main verb.
    "agreement_coordination": _frames(
        "agreement_coordination",
        _flipped("the N1:s and the N2:s that the N3:d T1:d I1:p", at="I1:p"),
        _flipped("the N1:s and the N2:s who T1:p the N3:d I1:p", at="I1:p"),
        _flipped("the N1:h that the N2:s and the N3:s T1:p I1:h", at="I1:h"),
        _flipped("the N1:s that the N2:s and the N3:s T1:p T2:s the N4:d", at="T2:s"),
        _flipped("the N1:s who T1:s the N2:d that the N3:s and the N4:s T2:p I1:s", at="I1:s"),
    ),
    # A reflexive refers to the subject of its own clause.
    "anaphor_agreement": _frames(
        "anaphor_agreement",
        _flipped("the A1 N1:p T1:ed S1:p", at="N1:p"),
        _flipped("J1 the A1 N1:p T1:ed S1:p the N2:d I1:ed", at="N1:p"),
        _flipped("the N1:h P1 the N2:d T1:ed S1:h", at="S1:h"),
        _flipped("the N1:h who T1:ed the N2:d T2:ed S1:h", at="S1:h"),
        _flipped("the N1:d C1:ed that the N2:h P1 the N3:e T1:ed S2:h", at="S2:h"),
        _flipped("the N1:d that the N2:h T1:ed C1:ed that the N3:e T2:ed S3:e", at="S3:e"),
        ("the N1:s that the N2:s T1:ed T2:ed S1:s", "the N1:s that the N2:s T1:ed T2:ed S1:x"),
        ("the N1:d C1:ed that the N2:s P1 the N3:s T1:ed S2:s", "the N1:d C1:ed that the N2:s P1 the N3:s T1:ed S2:x"),
    ),
    "determiner_noun": _frames(
        "determiner_noun",
        _flipped("Q1:p A1 N1:p I1:ed", at="N1:p"),
        _flipped("Q1:p A1 N1:p T1:ed the N2:d", at="N1:p"),
        _flipped("Q1:h A1 N1:h T1:ed the N2:d", at="Q1:h"),
        _flipped("the N2:d T1:ed Q1:h A1 A2 N1:h", at="N1:h"),
        _flipped("Q1:h A1 N1:h T1:ed Q2:d A2 N2:d", at="N1:h"),
        _flipped("Q1:h A1 N1:h T1:ed Q2:d A2 N2:d", at="N2:d"),
        _flipped("the N3:e P1 Q1:h A1 N1:h T1:ed Q2:d A2 N2:d", at="Q1:h"),
    ),
    # The two verbs change places: the intransitive one must not have an object, the transitive one must have one.
    "transitivity": _frames(
        "transitivity",
        ("the N1:h who T1:ed the N2:d I1:ed", "the N1:h who I1:ed the N2:d T1:ed"),
        ("the N1:h who I1:ed T1:ed the N2:d", "the N1:h who T1:ed I1:ed the N2:d"),
        ("the N1:h that the N2:d T1:ed I1:ed", "the N1:h that the N2:d I1:ed T1:ed"),
        ("J1 the N1:h I1:ed the N2:d T1:ed the N3:e", "J1 the N1:h T1:ed the N2:d I1:ed the N3:e"),
        ("J1 the N1:h I1:ed the N2:d I2:ed", "J1 the N1:h T1:ed the N2:d I2:ed"),
        ("J1 the N1:h P1 the N2:d I1:ed the N3:e I2:ed", "J1 the N1:h P1 the N2:d T1:ed the N3:e I2:ed"),
    ),
    "double_object": _frames(
        "double_object",
        ("the N1:h who T1:ed the N2:d D1:ed the N3:e the O1:s", "the N1:h who D1:ed the N2:d T1:ed the N3:e the O1:s"),
        ("the N1:h who D1:ed the N2:d the O1:s T1:ed the N3:e", "the N1:h who T1:ed the N2:d the O1:s D1:ed the N3:e"),
        ("the N1:h who T1:ed the O1:s D1:ed the N2:d the O2:s", "the N1:h who D1:ed the O1:s T1:ed the N2:d the O2:s"),
        (
            "J1 the N1:h D1:ed the N2:d the O1:s the N3:e T1:ed the N4:d",
            "J1 the N1:h T1:ed the N2:d the O1:s the N3:e D1:ed the N4:d",
        ),
    ),
    # After a modal at the front the MAIN verb is bare, without one it is finite; the relative clause keeps its own.
    "auxiliary_inversion": _frames(
        "auxiliary_inversion",
        ("X1 the N1:s who is A1 I1:base", "X1 the N1:s who I1:s is A1"),
        ("the N1:s who I1:s is A1", "the N1:s who is A1 I1:base"),
        ("X1 the N1:s who T1:s the N2:s I1:base", "X1 the N1:s who T1:s the N2:s I1:s"),
        ("the N1:s who T1:s the N2:s I1:s", "the N1:s who T1:s the N2:s I1:base"),
    ),
    # An adverb may close a clause but not part a verb from its object.
    "adverb_placement": _frames(
        "adverb_placement",
        ("J1 the N1:h I1:ed M1 the N2:d T1:ed the N3:e", "J1 the N1:h I1:ed the N2:d T1:ed M1 the N3:e"),
        ("the N1:h that the N2:d T1:ed M1 I1:ed", "the N1:h who T1:ed M1 the N2:d I1:ed"),
        (
            "J1 the N1:h C1:ed what the N2:d T1:ed M1 the N3:e I1:ed",
            "J1 the N1:h C1:ed that the N2:d T1:ed M1 the N3:e I1:ed",
        ),
        (
            "J1 the N1:h C1:ed that the N2:d I1:ed M1 the N3:e I2:ed",
            "J1 the N1:h C1:ed what the N2:d I1:ed M1 the N3:e I2:ed",
        ),
    ),
    # "any" needs a negation that c-commands it: in its clause or on its subject, not inside a part of its subject.
    "negative_polarity": _frames(
        "negative_polarity",
        (
            "the N1:h that the N2:d had T1:ed had not T2:ed any N3:p",
            "the N1:h that the N2:d had not T1:ed had T2:ed any N3:p",
        ),
        (
            "the N1:h who had not T1:ed any N3:p had T2:ed the N2:d",
            "the N1:h who had T1:ed any N3:p had not T2:ed the N2:d",
        ),
        ("no N1:h that the N2:d T1:ed had T2:ed any N3:p", "the N1:h that no N2:d T1:ed had T2:ed any N3:p"),
        (
            "the N1:h that no N2:d had D1:ed any O1:p T1:ed the N3:e",
            "the N1:h that the N2:d had D1:ed any O1:p T1:ed no N3:e",
        ),
    ),
    # "what" needs a gap in its clause and "that" must not have one; each surface cue alone is neutral.
    "filler_gap": _frames(
        "filler_gap",
        ("the N1:h C1:ed what the N2:d had T1:ed M1", "the N1:h C1:ed that the N2:d had T1:ed M1"),
        ("the N1:h C1:ed that the N2:d had T1:ed the O1:s M1", "the N1:h C1:ed what the N2:d had T1:ed the O1:s M1"),
        (
            "the N1:h C1:ed what the N2:d who had T1:ed the O1:s had T2:ed",
            "the N1:h C1:ed that the N2:d who had T1:ed the O1:s had T2:ed",
        ),
        (
            "the N1:h C1:ed that the N2:d who had T1:ed the O1:s had T2:ed the O2:s",
            "the N1:h C1:ed what the N2:d who had T1:ed the O1:s had T2:ed the O2:s",
        ),
    ),
}
