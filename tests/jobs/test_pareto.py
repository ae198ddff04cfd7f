"""Which rows are worth having, and the one within a limit."""

import csv

import pytest

from codir_jax.jobs import pareto, results
from codir_jax.jobs.recipe import Recipe
from codir_jax.processes.user_error import UserError

ACCURACY = {"name": "accuracy", "higher_is_better": True}
PERPLEXITY = {"name": "perplexity", "higher_is_better": False}


def _rows(metric, **points):
    return {
        name: {
            "title": name, "bytes": size, "dev": {metric: score}, "bits_per_weight": 32.0, "parameters": 1,
            "latency": {"batch_1_p50_ms": 1.0}, "dominated_by": "",
        }
        for name, (size, score) in points.items()
    }  # fmt: skip


SCORES = _rows("accuracy", dense=(1000, 0.90), int8=(250, 0.90), int4=(130, 0.80), bad=(200, 0.70))
LOSSES = _rows("perplexity", dense=(1000, 100.0), int8=(250, 102.0), int4=(130, 110.0))


def test_a_row_is_dominated_by_one_that_is_no_larger_and_no_worse():
    assert pareto.dominators(SCORES, ACCURACY) == {"dense": "int8", "int8": "", "int4": "", "bad": "int4"}
    assert pareto.dominators(LOSSES, PERPLEXITY) == {"dense": "", "int8": "", "int4": ""}


def test_equal_rows_do_not_dominate_each_other():
    assert not any(pareto.dominators(_rows("accuracy", a=(1, 0.5), b=(1, 0.5)), ACCURACY).values())


@pytest.mark.parametrize(
    ("rows", "metric", "limit", "picked"),
    [
        (SCORES, ACCURACY, ("260", None), "int8"),
        (SCORES, ACCURACY, ("0.14KB", None), "int4"),
        (SCORES, ACCURACY, ("", 12.0), "int4"),
        (SCORES, ACCURACY, ("", 0.0), "int8"),
        (LOSSES, PERPLEXITY, ("", 3.0), "int8"),
        (LOSSES, PERPLEXITY, ("", 1.0), "dense"),
        (LOSSES, PERPLEXITY, ("1 kB", None), "dense"),
        (LOSSES, PERPLEXITY, ("300", 20.0), "int4"),
    ],
)
def test_the_best_that_is_small_enough_or_the_smallest_that_is_good_enough(rows, metric, limit, picked):
    assert pareto.pick(rows, metric, pareto.Limit(*limit)) == picked


def test_models_of_two_domains_do_not_dominate_each_other():
    groups = {"student": ("s_a", "s_b"), "mixed": ("m_a", "m_b")}
    recipe = Recipe("", (), main="s_a", exports=("a", "b"), groups=groups)
    rows = _rows("accuracy", s_a=(10, 0.5), s_b=(10, 0.9), m_a=(10, 0.6), m_b=(10, 0.8), int8=(5, 0.55))
    found = results._dominators(recipe, rows, {"int8": None}, ACCURACY)
    assert found == {"s_a": "m_a", "m_a": "", "int8": "", "s_b": "", "m_b": "s_b"}


def test_a_limit_that_no_row_keeps_names_the_nearest():
    with pytest.raises(UserError, match="the nearest is 'int4' with 130 bytes"):
        pareto.pick(SCORES, ACCURACY, pareto.Limit("100"))
    with pytest.raises(UserError, match="the nearest is 'int8'"):
        pareto.pick(LOSSES, PERPLEXITY, pareto.Limit("300", 0.5))


@pytest.mark.parametrize("text", ["5 parsecs", "MB", "-3MB", "0", "5MB each"])
def test_what_is_no_size_is_told(text):
    with pytest.raises(UserError, match="expected a size such as 5MB"):
        pareto.Limit(text)


def test_sizes_in_words():
    assert [pareto.bytes_of(t) for t in ("5MB", "1.5 KiB", "77")] == [5_000_000, 1536, 77]
    with pytest.raises(UserError, match="0 or more"):
        pareto.Limit("", -1.0)


def test_the_table_as_csv(tmp_path):
    pareto.write_csv(tmp_path / "pareto.csv", SCORES)
    lines = list(csv.DictReader((tmp_path / "pareto.csv").open()))
    assert [(line["name"], line["bytes"], line["dev_accuracy"]) for line in lines][2] == ("int4", "130", "0.8")
