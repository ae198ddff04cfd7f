"""The schema of a config: what a field accepts, how faults are told, what an older saved config gets."""

import math

import pytest

from codir_jax.processes import fields
from codir_jax.processes.fields import field
from codir_jax.processes.user_error import UserError


def _no_comma(text):
    if "," in text:
        raise UserError("a comma in it")


FIELDS = {
    "rate": field(0.1, "share that is dropped", at_least=0, below=1, also=(-1,)),
    "weight": field(1.0, "weight of the contrastive term", at_least=0),
    "temperature": field(0.07, "tau", above=0, at_most=1e4),
    "size": field(8, "rows of a batch", at_least=1, at_most=4096),
    "is_on": field(False, "whether it is on"),
    "kind": field("mean", "how it is pooled", words=("mean", "first", "")),
    "path": field("", "where it lies"),
    "name": field("a", "of one thing", reads=_no_comma),
    "rates": field((0.0, 0.1), "of the views", each=field(0.0, "a rate", at_least=0, below=1)),
    "inner": {
        "total_steps": field(-1, "length", at_least=1, also=(-1,)),
        "total_epochs": field(3.0, "length", also=(-1,)),
    },
}
GOOD = fields.defaults(FIELDS)


def test_defaults_are_plain_values():
    assert GOOD == {
        "rate": 0.1, "weight": 1.0, "temperature": 0.07, "size": 8, "is_on": False, "kind": "mean", "path": "",
        "name": "a", "rates": (0.0, 0.1), "inner": {"total_steps": -1, "total_epochs": 3.0},
    }  # fmt: skip
    assert fields.faults(FIELDS, GOOD) == []


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("rate", (0, 0.0, 0.999, -1, -1.0)),
        ("weight", (0, 5, 1e30)),
        ("temperature", (1e-9, 10_000)),
        ("size", (1, 4096)),
        ("is_on", (True,)),
        ("kind", ("", "first")),
        ("path", ("a/b", "ä é", "x y")),
        ("rates", ((), [0.5], (0, 0.25))),
    ],
)
def test_what_a_field_accepts(key, values):
    for value in values:
        assert fields.faults(FIELDS, GOOD | {key: value}) == [], (key, value)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("rate", (1, 1.0, -0.5, -2, math.nan, math.inf, "0.1", None, True, [0.1])),
        ("weight", (-1.5, -1e-9, math.nan, math.inf, -math.inf, 10**400, None, "", False)),
        ("temperature", (0, 0.0, 10_000.5, math.nan)),
        ("size", (0, 4097, 8.0, 2.5, True, "8", None, 10**5000)),
        ("is_on", (0, 1, "False", None, 1.0)),
        ("kind", ("max", None, 1)),
        ("path", (5, None, ["a"], "a\0b", "\ud800")),
        ("name", ("a,b", 3)),
        ("rates", (0.1, "0.1", (1.0,), (math.nan,), ("a",), None)),
        ("inner", (1, None, [], "x")),
    ],
)
def test_what_a_field_refuses_is_told_with_its_key(key, values):
    for value in values:
        (told,) = fields.faults(FIELDS, GOOD | {key: value}, "group.")
        assert told.startswith(f"group.{key}="), told
        assert len(told) < 300


def test_a_fault_says_key_value_expectation_and_meaning():
    def of(**values):
        return fields.faults(FIELDS, GOOD | values, "objective.")[0]

    assert of(weight=-1.5) == (
        "objective.weight=-1.5: expected a finite number, 0 or more (weight of the contrastive term)"
    )
    assert (
        of(rate=2) == "objective.rate=2: expected a finite number, 0 or more and below 1, or -1 (share that is dropped)"
    )
    assert of(size="8") == "objective.size='8': expected a whole number, 1 to 4,096 (rows of a batch)"
    assert of(kind="max") == "objective.kind='max': expected one of mean, first, '' (how it is pooled)"
    assert of(name="a,b") == "objective.name='a,b': a comma in it (of one thing)"
    assert (
        of(rates=(2.0,))
        == "objective.rates=(2.0,): expected a list, each a finite number, 0 or more and below 1 (of the views)"
    )
    assert of(inner=3) == "objective.inner=3: expected a group of fields: total_steps, total_epochs"


def test_all_faults_unknown_and_missing_names_are_told_at_once():
    given = {name: value for name, value in GOOD.items() if name != "path"} | {"weigth": 1.0, "size": 0, "rate": 3.0}
    found = fields.faults(FIELDS, given)
    assert len(found) == 4
    assert found[0] == "weigth=1.0: no such field; did you mean 'weight'?"
    assert "path is missing: expected a text (where it lies)" in found
    with pytest.raises(UserError, match=r"^4 fields cannot be as they are:\n.*\n.*rate=3\.0"):
        fields.refuse(found)
    with pytest.raises(UserError, match=r"^20 fields|\.\.\. and 5 more"):
        fields.refuse([f"key{i}" for i in range(25)])
    fields.refuse([])


def test_an_older_config_gets_defaults_and_a_unit_of_a_duration_is_not_given():
    older = {name: value for name, value in GOOD.items() if name not in ("weight", "inner")} | {
        "inner": {"total_steps": 5}
    }
    whole, added = fields.completed(FIELDS, older | {"rates": [0.5], "rate": 0})
    assert added == ["weight=1.0", "inner.total_epochs=-1.0"]
    assert whole["weight"] == 1.0 and whole["inner"] == {"total_steps": 5, "total_epochs": -1.0}
    assert whole["rates"] == (0.5,) and isinstance(whole["rate"], float)
    without, added = fields.completed(FIELDS, {"size": 1})
    assert "inner" not in without and "inner.total_steps=-1" not in added  # a group is not made up


@pytest.mark.parametrize(
    ("default", "limits"),
    [(2.0, {"below": 1}), (None, {}), ({}, {}), ((), {}), ("a", {"words": ("b",)}), (math.inf, {})],
)
def test_a_field_that_refuses_its_own_default_is_a_slip(default, limits):
    with pytest.raises((ValueError, KeyError)):
        field(default, "x", **limits)


def test_every_field_is_listed_by_its_dotted_key():
    keys = [key for key, _ in fields.flat(FIELDS)]
    assert keys[-1] == "inner.total_epochs" and len(keys) == 11
