"""A sentence encoder, judged by the pairs that it ranks, by clusters, and by linear classifiers; TF-IDF beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from codir_jax import config as config_lib
from codir_jax.data import judged_texts
from codir_jax.data.judged_texts import LabelledTexts, ScoredPairs
from codir_jax.evaluation import clustering as clustering_lib
from codir_jax.evaluation import metrics, probe, tf_idf
from codir_jax.evaluation import sts as sts_lib
from codir_jax.processes import console
from codir_jax.processes.user_error import UserError

# Of the rows of --classification: each is answered by a classifier that was fitted on the other parts.
FOLDS = 5


def scores(
    model: str,
    sts: str = "",
    clustering: str = "",
    classification: str = "",
    *,
    batch_size: int = 32,
    num_seeds: int = 10,
    overrides: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """The scores of an encoder; every file is read and checked before the model is.

    Args:
      model: workdir of `train`, folder of `compress`, sentence-transformers or Hugging Face folder, or hub name.
      sts: comma-separated files, patterns and folders of two texts and a score, see `data.judged_texts`; "stsb" is the
        dev split of GLUE's.
      clustering, classification: the same of a text and a label.
      batch_size: texts that are run together.
      num_seeds: of k-means.
      overrides: (dotted key, text) pairs of the `data` section: where GLUE lies.

    Returns:
      {"model", "sts": {set: {"pairs", "spearman", "tf_idf", "alignment"}}, "sts_mean": {"spearman", "tf_idf"},
      "uniformity", "mean_cosine", "clustering": {set: {"texts", "classes", "accuracy", "accuracy_sd", "nmi", "nmi_sd",
      "tf_idf": {...}}}, "classification": {set: {"texts", "classes", "accuracy", "matthews_correlation", "tf_idf":
      {...}}}, "notes": sentences}. Correlations, accuracy and NMI are x 100; None is undefined, and a note says why.
    """
    judged_texts.check_specs(sts=sts, clustering=clustering, classification=classification)
    if num_seeds < 1:
        raise UserError(f"k-means needs at least one seed, got {num_seeds}")
    pairs = judged_texts.scored_pairs(sts, {"stsb": lambda: _stsb(overrides)})
    clustered = judged_texts.labelled_texts(clustering)
    classified = judged_texts.labelled_texts(classification, "--classification", at_least=FOLDS)
    from codir_jax.predict import sentence_encoder

    encoder = sentence_encoder.load(model, batch_size=batch_size)
    result: dict[str, Any] = {"model": model, "notes": []}
    if pairs:
        result |= _of_pairs(encoder, pairs, result["notes"])
    if clustered:
        result["clustering"] = _of_clusters(encoder, clustered, num_seeds)
    if classified:
        result["classification"] = {name: _classified(encoder, name, rows) for name, rows in classified.items()}
    return result


def tables(result: dict[str, Any]) -> str:
    """The result of `scores` as Markdown."""
    lines: list[str] = []
    if "sts" in result:
        lines += ["| similarity | pairs | Spearman | TF-IDF | alignment |", "|---|---|---|---|---|"]
        for name, row in result["sts"].items():
            numbers = (_told(row["spearman"]), _told(row["tf_idf"]), _told(row["alignment"], 3))
            lines.append(f"| {name} | {row['pairs']} | {' | '.join(numbers)} |")
        if len(result["sts"]) > 1:
            mean = result["sts_mean"]
            lines.append(f"| mean | | {_told(mean['spearman'])} | {_told(mean['tf_idf'])} | |")
        spread = f"Uniformity {_told(result['uniformity'], 3)}, mean cosine of two texts "
        lines += ["", spread + f"{_told(result['mean_cosine'], 3)}; Spearman's rank correlation x 100.", ""]
    if "clustering" in result:
        lines += _by_classes(
            "clustering", result, _OF_CLUSTERS, lambda of, key: f"{of[key]:.1f} ± {of[f'{key}_sd']:.1f}"
        )
        lines += ["", "k-means, mean and standard deviation over its seeds, x 100.", ""]
    if "classification" in result:
        lines += _by_classes("classification", result, _OF_CLASSES, lambda of, key: f"{of[key]:.1f}")
        lines += ["", f"A linear classifier of the vectors, on rows it was not fitted on ({FOLDS} folds), x 100.", ""]
    return "\n".join([*lines, *(f"note: {note}" for note in result["notes"])]).rstrip()


# Key -> title of a column.
_OF_CLUSTERS = {"accuracy": "accuracy", "nmi": "NMI"}
_OF_CLASSES = {"accuracy": "accuracy", "matthews_correlation": "MCC"}


def _by_classes(
    kind: str, result: dict[str, Any], measures: Mapping[str, str], told: Callable[[dict[str, Any], str], str]
) -> list[str]:
    """The lines of a table of sets with classes: the measures of the encoder, then those of TF-IDF."""
    titles = [*measures.values(), *(f"TF-IDF {title}" for title in measures.values())]
    lines = [f"| {kind} | texts | classes | {' | '.join(titles)} |", "|---" * (3 + len(titles)) + "|"]
    for name, row in result[kind].items():
        numbers = [told(of, key) for of in (row, row["tf_idf"]) for key in measures]
        lines.append(f"| {name} | {row['texts']} | {row['classes']} | {' | '.join(numbers)} |")
    return lines


def _of_pairs(encoder, sets: dict[str, ScoredPairs], notes: list[str]) -> dict[str, Any]:
    texts = list(dict.fromkeys(text for rows in sets.values() for text in (*rows.firsts, *rows.seconds)))
    place = {text: i for i, text in enumerate(texts)}
    vectors = encoder.encode(texts, progress=True)
    found: dict[str, Any] = {}
    for name, rows in sets.items():
        firsts, seconds = (vectors[[place[text] for text in side]] for side in (rows.firsts, rows.seconds))
        rank = sts_lib.spearman(sts_lib.cosines(firsts, seconds), rows.scores)
        if math.isnan(rank):
            notes.append(f"{name}: the cosines of all pairs are the same, so they rank nothing (a collapsed encoder)")
        words = sts_lib.spearman(tf_idf.cosines(rows.firsts, rows.seconds, texts), rows.scores)
        if math.isnan(words):
            notes.append(f"{name}: counted words give all pairs the same cosine, so they rank nothing")
        alignment = sts_lib.alignment(firsts, seconds, rows.scores)
        if math.isnan(alignment):
            notes.append(f"{name}: alignment is of pairs with a score above {sts_lib.SAME:g} of 5, and there are none")
        found[name] = {
            "pairs": len(rows.scores),
            "spearman": _defined(rank),
            "tf_idf": _defined(words),
            "alignment": _defined(alignment),
        }
    spread = sts_lib.spread(vectors)
    return {
        "sts": found,
        "sts_mean": {name: _mean(row[name] for row in found.values()) for name in ("spearman", "tf_idf")},
        **{name: _defined(value) for name, value in spread.items()},
    }


def _of_clusters(encoder, sets: dict[str, LabelledTexts], num_seeds: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, rows in sets.items():
        vectors = encoder.encode(rows.texts, progress=True)
        with console.progress_bar(f"k-means {name}", 0, 2 * num_seeds, unit="seed") as bar:
            kind = {"num_seeds": num_seeds, "tick": bar.update}
            found[name] = {
                "texts": len(rows.texts),
                "classes": len(set(rows.labels)),
                **clustering_lib.k_means_scores(vectors, rows.labels, **kind),
                "tf_idf": clustering_lib.k_means_scores(tf_idf.topics(rows.texts), rows.labels, **kind),
            }
    return found


def _classified(encoder, name: str, rows: LabelledTexts) -> dict[str, Any]:
    """What linear classifiers of the vectors, and of counted words, answer to rows that they were not fitted on."""
    texts, (names, labels) = [(text,) for text in rows.texts], np.unique(rows.labels, return_inverse=True)
    vectors = encoder.encode(rows.texts, progress=True)

    def by_vectors(own, new):
        return probe.predict(vectors[own], labels[own], vectors[new])

    def by_words(own, new):
        return tf_idf.linear_model([texts[i] for i in own], labels[own], False).predict([texts[i] for i in new])

    def scores_of(answer) -> dict[str, float]:
        answers = probe.held_out(answer, labels, FOLDS, seed=0, tick=bar.update)
        return {metric: 100.0 * value for metric, value in metrics.compute([*_OF_CLASSES], labels, answers).items()}

    with console.progress_bar(f"classifiers {name}", 0, 2 * FOLDS, unit="fold") as bar:
        facts = {"texts": len(texts), "classes": len(names)}
        return {**facts, **scores_of(by_vectors), "tf_idf": scores_of(by_words)}


def _stsb(overrides: Sequence[tuple[str, str]]) -> ScoredPairs:
    """GLUE's STS-B, dev split."""
    from ml_collections import ConfigDict

    from codir_jax.data import dataset, settings

    config = ConfigDict({"data": settings.default_config()})
    for key, text in [*overrides, ("data.name", "stsb")]:
        config_lib.set_from_text(config, key, text)
    settings.check(config.data)
    rows = dataset.read(config.data).splits["dev"]
    return ScoredPairs(rows.texts_a, rows.texts_b, rows.labels)


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value


def _mean(values: Iterable[float | None]) -> float | None:
    values = list(values)
    return None if None in values else float(np.mean(values))


def _told(value: float | None, digits: int = 1) -> str:
    return "undefined" if value is None else f"{value:.{digits}f}"
