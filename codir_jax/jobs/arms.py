"""The arms of a job that ends with a model a domain: dev scores by domain and over the rows of all, counted words
beside them, and whether they differ by more than noise."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from codir_jax.evaluation import metrics, statistics, tf_idf
from codir_jax.evaluation.statistics import PairedDifference
from codir_jax.jobs.answers import BAR, texts_of
from codir_jax.jobs.measure import Measured
from codir_jax.jobs.recipe import Recipe


def compare(
    recipe: Recipe,
    titles: Mapping[str, str],
    trained: Mapping[int, Mapping[str, Mapping[str, Any]]],
    measured: Measured,
    metric: str,
    seed: int,
) -> dict[str, Any]:
    """{"num_rows", "over" (what intervals are over), "by_arm": arm -> {"title", "by_domain": domain -> score, "score",
    "low", "high" (95 %), "difference" to the first arm, None of that}}; {} where no rows of dev were answered.

    The last arm, `answers.BAR`, is of words counted in the train rows of all domains. Intervals of several seeds are
    over the seeds, of one over the rows of dev, drawn again for all arms alike.

    Args:
      titles: of the arms. trained: seed -> name of a stage -> its results, of the students.
      measured: of the first seed; its first model was taught the train rows of all domains.
      metric: of `metrics.METRICS`, a mean over rows of classes. seed: of draws.
    """
    names = {arm: recipe.arm(arm) for arm in titles}
    if not measured.answers.keys() >= {name for own in names.values() for name in own}:
        return {}
    first = next(iter(names))
    dev = [measured.tasks[name].read_rows()["dev"] for name in names[first]]
    train = measured.tasks[next(iter(measured.answers))].read_rows()["train"]
    words = tf_idf.linear_model(texts_of(train), train.labels, is_regression=False, seed=seed)
    answers = {arm: [measured.answers[name].argmax(-1) for name in own] for arm, own in names.items()}
    answers[BAR] = [words.predict(texts_of(rows)) for rows in dev]
    labels, value = [np.asarray(rows.labels) for rows in dev], metrics.METRICS[metric]
    # [seeds, domains]; words are counted once for all seeds
    scores = {
        arm: np.asarray([[stages[name]["dev"][metric] for name in own] for stages in trained.values()])
        for arm, own in names.items()
    }
    scores[BAR] = np.asarray([[value(*pair) for pair in zip(labels, answers[BAR], strict=True)]] * len(trained))
    pooled = {arm: np.average(own, axis=1, weights=[len(rows) for rows in dev]) for arm, own in scores.items()}
    if len(trained) > 1:
        ends, gaps = _over_seeds(pooled, first)
    else:
        drawn = {arm: np.concatenate(own) for arm, own in answers.items()}
        drawn = statistics.resampled_scores(value, np.concatenate(labels), drawn, seed=seed)
        ends, gaps = _over_rows(pooled, drawn, first)
    num_rows = sum(map(len, dev))
    by_arm = {
        arm: {
            "title": titles.get(arm, f"{words.title}, all domains"),
            "by_domain": dict(zip(recipe.exports, own.mean(0).tolist(), strict=True)),
            "score": float(pooled[arm].mean()),
            "low": float(ends[arm][0]),
            "high": float(ends[arm][1]),
            "difference": gaps[arm]._asdict() if arm != first else None,
        }
        for arm, own in scores.items()
    }
    over = f"{len(trained)} seeds" if len(trained) > 1 else f"the {num_rows} rows"
    return {"num_rows": num_rows, "over": over, "by_arm": by_arm}


def _over_seeds(pooled: Mapping[str, np.ndarray], first: str) -> tuple[dict[str, Any], dict[str, PairedDifference]]:
    """({arm: its 95 % interval}, {arm: its difference to the first}); `pooled`: arm -> [seeds]."""
    ends = {arm: statistics.interval(own) for arm, own in pooled.items()}
    return ends, {arm: statistics.paired_difference(own, pooled[first]) for arm, own in pooled.items()}


def _over_rows(
    pooled: Mapping[str, np.ndarray], drawn: Mapping[str, np.ndarray], first: str
) -> tuple[dict[str, Any], dict[str, PairedDifference]]:
    """As of `_over_seeds`, of one seed; `drawn`: arm -> scores of rows that were drawn again."""
    ends = {arm: np.percentile(own, (2.5, 97.5)) for arm, own in drawn.items()}
    gaps = {
        arm: statistics.resampled_difference(float(pooled[arm][0] - pooled[first][0]), own, drawn[first])
        for arm, own in drawn.items()
    }
    return ends, gaps


def sentence(arms: Mapping[str, Any], metric: str, *, higher_is_better: bool) -> str:
    """How the others differ from the first arm.

    Args:
      arms: of `compare`. metric: in words.
    """
    first, *others = arms["by_arm"].values()
    told = []
    for row in others:
        gap = PairedDifference(**row["difference"])
        verdict = "no more than noise"
        if gap.excludes_zero:
            verdict = "better" if (gap.mean > 0) == higher_is_better else "worse"
        told.append(f"{row['title']} {gap.mean:+.4f} ({gap.low:+.4f} to {gap.high:+.4f}, {verdict})")
    return (
        f"Dev {metric} over the {arms['num_rows']} rows of all domains, less that of {first['title']} with 95 % "
        f"intervals over {arms['over']}, paired: {', '.join(told)}."
    )
