"""Whether the student is more than noise apart from plain training (no teacher); whether its teacher could teach."""

from collections.abc import Mapping
from typing import Any

from codir_jax.evaluation.statistics import PairedDifference
from codir_jax.jobs import arms
from codir_jax.jobs.recipe import TEACHER

UNKNOWN = "what another seed would change is not known (--seeds=5 tells)"


def told(results: Mapping[str, Any]) -> str:
    """Both, for a person."""
    return f"{sentence(results)} {weak_teacher(results)}".strip()


def sentence(results: Mapping[str, Any]) -> str:
    """One sentence of the exported model or, where that is plain training itself, of the main one.

    Args:
      results: of a job. With several seeds the interval is over the seeds, on test where there is one, by which nothing
        was chosen; with one seed over the rows of dev.
    """
    baseline, rows, metric = results["baseline"], results["models"], results["primary_metric"].replace("_", " ")
    offered = results["baseline_offered"]
    name = results["exported"] if results["exported"] != baseline else results["main"]
    if results["exports"]:
        if not results["arms"]:
            return "Each domain has models of its own, and no rows of dev to tell a difference from noise by."
        told = arms.sentence(results["arms"], metric, higher_is_better=_higher_is_better(results))
        return told if len(results["seeds"]) > 1 else f"{told} {UNKNOWN[0].upper()}{UNKNOWN[1:]}."
    if not baseline or name == baseline:
        if not offered:
            return "This recipe has no plain training to compare with, so what its method adds is not told here."
        return (
            f"Whether the student differs from plain training by more than noise was not measured: "
            f"--compare={offered} trains that as well, and what is finished stays."
        )
    found, split, basis, rest = _difference(results, name)
    pair = f"{rows[name]['title']} minus {rows[baseline]['title']}"
    if found is None:
        return f"{pair}: there are no rows of dev to tell a difference from noise by."
    mean, low, high = (f"{found[key]:+.4f}" for key in ("mean", "low", "high"))
    if not PairedDifference(**found).excludes_zero:
        verdict = "no more than noise"
    else:
        is_better = (found["mean"] > 0) == _higher_is_better(results)
        verdict = f"{'better' if is_better else 'worse'} by more than that noise"
    return f"{pair}, {split} {metric}: {mean}, 95 % interval {low} to {high} ({basis}), so it is {verdict}{rest}."


def weak_teacher(results: Mapping[str, Any]) -> str:
    """What to do where the teacher is no better on dev than plain training of its student; "" where it is."""
    rows, baseline, metric = results["models"], results["baseline"], results["primary_metric"]
    if not baseline or metric not in rows.get(TEACHER, {}).get("dev", {}) or metric not in rows[baseline]["dev"]:
        return ""
    taught = rows[TEACHER]["dev"][metric]
    plain = results["over_seeds"].get(baseline, {}).get("mean", rows[baseline]["dev"][metric])
    if (taught > plain) if _higher_is_better(results) else (taught < plain):
        return ""
    num_rows = results["answers"]["num_rows"] if results["answers"] else 0
    by = f" By these {num_rows:,} rows it" if num_rows else " It"
    return (
        f"The teacher, {taught:.4f}, is no better on dev than {rows[baseline]['title']}, {plain:.4f}.{by} has nothing "
        "to teach. Train it longer, or at another rate, in a new folder: --teacher_config.train.total_epochs=10 "
        "--teacher_config.optimizer.learning_rate=1e-4."
    )


def _difference(results: Mapping[str, Any], name: str) -> tuple[Mapping[str, float] | None, str, str, str]:
    """(difference to plain training, the split it is of, what its interval is over, the rest of the sentence)."""
    for split, key in (("test", "over_seeds_on_test"), ("dev", "over_seeds")):
        of_seeds = results[key].get(name, {}).get("difference")
        if of_seeds:
            return of_seeds, split, f"over {of_seeds['n']} seeds, paired", ""
    answers = results["answers"]
    found = answers and answers["by_model"].get(name, {}).get("difference")
    if not found:
        return None, "", "", ""
    return found, "dev", f"over the {answers['num_rows']} rows, paired bootstrap", f"; {UNKNOWN}"


def _higher_is_better(results: Mapping[str, Any]) -> bool:
    return results["metrics"][0]["higher_is_better"]
