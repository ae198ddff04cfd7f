"""Arms of a job of two domains, compared over the rows of both; nothing is trained but the counted words."""

from types import SimpleNamespace

import numpy as np
import pytest

from codir_jax.data.splits import RawSplit
from codir_jax.jobs import arms
from codir_jax.jobs.answers import BAR
from codir_jax.jobs.measure import Measured
from codir_jax.jobs.recipe import Recipe, StageSpec

GROUPS = {arm: (f"{arm}_books", f"{arm}_dvd") for arm in ("student", "mixed")}
NAMES = [name for names in GROUPS.values() for name in names]
RECIPE = Recipe(
    "Title",
    tuple(StageSpec(name, name, "a.py") for name in ("teacher", *NAMES)),
    main="student_books",
    exports=("books", "dvd"),
    groups=GROUPS,
)
TITLES = {"student": "ours", "mixed": "theirs"}
# 40 rows of books, 10 of dvd; a text says what it is.
LABELS = {"books": [0, 1] * 20, "dvd": [1, 0] * 5}


def _rows(labels):
    return RawSplit([("bad", "good")[label] for label in labels], None, list(labels))


def _measured(wrong):
    """Answers of which the first `wrong[name]` are wrong."""
    tasks, answers = {}, {}
    for name in ("teacher", *NAMES):
        place = name.partition("_")[2] or "books"
        labels = np.asarray(LABELS[place])
        given = np.where(np.arange(len(labels)) < wrong.get(name, 0), 1 - labels, labels)
        answers[name] = np.eye(2)[given]
        train = _rows(LABELS["books"] + LABELS["dvd"])
        tasks[name] = SimpleNamespace(
            read_rows=lambda place=place, train=train: {"train": train, "dev": _rows(LABELS[place])}
        )
    return Measured({}, tasks["student_books"], tasks, answers)


def _trained(wrong):
    scores = {name: 1 - wrong[name] / len(LABELS[name.partition("_")[2]]) for name in NAMES}
    return {name: {"dev": {"accuracy": score}} for name, score in scores.items()}


WRONG = {"student_books": 20, "student_dvd": 1, "mixed_books": 8, "mixed_dvd": 2}


def test_of_one_seed_the_rows_of_all_domains_are_drawn_again():
    found = arms.compare(RECIPE, TITLES, {0: _trained(WRONG)}, _measured(WRONG), "accuracy", 0)
    ours, theirs, words = (found["by_arm"][arm] for arm in ("student", "mixed", BAR))
    assert found["num_rows"] == 50 and found["over"] == "the 50 rows"
    assert ours["by_domain"] == {"books": 0.5, "dvd": 0.9} and ours["score"] == pytest.approx(29 / 50)
    assert theirs["score"] == pytest.approx(40 / 50) and ours["difference"] is None
    gap = theirs["difference"]
    # Twelve rows won and one lost of 50: the standard error of the mean is sqrt((13 - 11^2 / 50) / 50) / sqrt(50).
    error = ((13 - 11**2 / 50) / 50 / 50) ** 0.5
    assert gap["mean"] == pytest.approx(11 / 50) and gap["high"] - gap["low"] == pytest.approx(3.92 * error, rel=0.15)
    assert words["by_domain"] == {"books": 1.0, "dvd": 1.0} and words["title"].endswith("all domains")
    told = arms.sentence(found, "accuracy", higher_is_better=True)
    assert "over the 50 rows of all domains, less that of ours" in told and "theirs +0.2200 (" in told
    assert told.count(", better)") == 2
    assert ", worse)" in arms.sentence(found, "accuracy", higher_is_better=False)


def test_of_several_seeds_they_are_paired_by_seed():
    level = WRONG | {"mixed_books": 20, "mixed_dvd": 1}
    found = arms.compare(RECIPE, TITLES, {0: _trained(WRONG), 1: _trained(level)}, _measured(WRONG), "accuracy", 0)
    theirs = found["by_arm"]["mixed"]
    assert found["over"] == "2 seeds" and theirs["by_domain"] == {"books": 0.65, "dvd": pytest.approx(0.85)}
    assert theirs["difference"]["mean"] == pytest.approx(0.11) and theirs["difference"]["n"] == 2
    assert "theirs +0.1100 (" in (told := arms.sentence(found, "accuracy", higher_is_better=True))
    assert "no more than noise" in told


def test_without_rows_of_dev_nothing_is_compared():
    measured = _measured(WRONG)._replace(answers={})
    assert arms.compare(RECIPE, TITLES, {0: _trained(WRONG)}, measured, "accuracy", 0) == {}
