"""The README.md of an exported folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from codir_jax.convert.folder import without_path
from codir_jax.convert.labels import Labels
from codir_jax.convert.markdown import escaped
from codir_jax.convert.sentence_folder import SentenceFacts
from codir_jax.models.contract import NO_LIMIT, family
from codir_jax.models.heads import head_spec
from codir_jax.models.transformer import TransformerConfig

_POOLED = {
    "mean": "the mean of the last layer over all tokens, those that start and end the text included",
    "cls": "the first token's state in the last layer",
    "pooler": "the first token's state in the last layer, through a linear layer and tanh",
}
_NORM = {True: "of norm 1", False: "not normalised, so compare them by their cosine"}


class Provenance(NamedTuple):
    """What a card tells of where a model comes from; "" is not known, and left out.

    Attributes:
      license: name on the Hugging Face hub, such as "apache-2.0". language: codes, comma separated, such as "en,de".
      base_model: hub name or path of the model that was compressed. data: name of the data.
      metrics: names that the model is judged by, the primary one first; told of dev and test in the front matter.
    """

    license: str = ""
    language: str = ""
    base_model: str = ""
    data: str = ""
    metrics: tuple[str, ...] = ()


UNKNOWN = Provenance()


def model_card(
    name: str,
    config: TransformerConfig,
    head: str,
    labels: Labels,
    sentence: SentenceFacts | None,
    results: Mapping[str, Any] | None,
    training_config: Mapping[str, Any] | None,
    teacher_name: str,
    verdict: Any,
    max_length: int,
    provenance: Provenance = UNKNOWN,
) -> str:
    """The folder's README.md: YAML front matter, what it is, results, how to load it, limits, training config."""
    about, teacher = head_spec(head).card, without_path(teacher_name)
    lines = ["---", _front(name, config, about, results or {}, provenance), "---", "", f"# {escaped(name)}", ""]
    does = about.does(*labels._replace(names=labels.names and tuple(map(escaped, labels.names))))
    lines.append(
        f"This {family(config.family).title} encoder of {config.in_words} {does}. "
        "Trained with codir_jax" + (f"; its teacher was `{_code(teacher)}`." if teacher else ".")
    )
    if labels.names and not labels.is_regression:
        lines += ["", "Labels: " + ", ".join(f"`{i}` {escaped(label)}" for i, label in enumerate(labels.names)) + "."]
    if sentence:
        made = f"{_POOLED[config.pooling]}, {_NORM[sentence.normalize]}"
        lines += ["", f"Vectors have {config.hidden_size} numbers: {made}."]
    if labels.is_multi_label:
        lines += ["", "The sigmoid of each logit is the probability of that label; those above 0.5 are the answer."]
    lines += ["", "## Intended use", "", *_use(provenance)]
    lines += ["", "## Results", ""]
    rows = list(_rows(results or {}))
    if rows:
        lines += ["| measure | value |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows)]
    else:
        lines.append("None were given at export.")
    lines += ["", f"Export check: {verdict}.", "", "## How to load it", "", "```python"]
    usage, in_jax = (about.pair_usage, about.pair_in_jax) if labels.is_pair else (about.usage, about.in_jax)
    lines += [*usage, "```", ""]
    if in_jax:
        lines += ["Without torch, in JAX:", "", "```python", *in_jax, "```", ""]
    lines += [
        "## Limits",
        "",
        *([_limit(max_length, sentence)] if max_length < NO_LIMIT else []),
        "* A compressed model inherits its teacher's mistakes and biases, and is less robust than it away from the "
        "training text.",
        "* The scores above hold for the data that they were measured on.",
    ]
    if training_config:
        dump = json.dumps(training_config, indent=2, sort_keys=True, default=str)
        lines += ["", "<details><summary>Training config</summary>", "", "```json", dump, "```", "", "</details>"]
    return "\n".join(lines) + "\n"


def _front(name: str, config: TransformerConfig, about, results: Mapping[str, Any], provenance: Provenance) -> str:
    """The front matter as YAML, as the hub reads it."""
    from huggingface_hub import EvalResult, ModelCardData

    base = provenance.base_model
    scores = [
        EvalResult(
            task_type=about.pipeline_tag,
            dataset_type=provenance.data,
            dataset_name=provenance.data,
            dataset_split=split,
            metric_type=metric,
            metric_value=round(results[split][metric], 4),
        )
        for split in ("dev", "test")
        for metric in provenance.metrics
        if provenance.data and metric in results.get(split, {})
    ]
    data = ModelCardData(
        library_name=about.library,
        pipeline_tag=about.pipeline_tag,
        tags=[config.family, about.pipeline_tag, "knowledge-distillation", "codir"],
        license=provenance.license or None,
        language=[code.strip() for code in provenance.language.split(",") if code.strip()] or None,
        base_model=base if base and without_path(base) == base else None,  # else it is on no hub
        model_name=name if scores else None,
        eval_results=scores or None,
    )
    return data.to_yaml()


def _use(provenance: Provenance) -> list[str]:
    data, base = escaped(provenance.data), _code(without_path(provenance.base_model))
    told = [f"For texts like those of its training data{f' ({data})' if data else ''}, and the task above alone."]
    if base:
        told.append(f"Made from `{base}`, whose terms of use hold here too.")
    if not provenance.license:
        told.append("No licence was named at export: ask its maker before you use it.")
    if not provenance.language:
        told.append("Its language was not named at export.")
    return [*told, "Do not let it decide about people without a person who checks."]


def _code(text: str) -> str:
    """What stands between two backticks."""
    return " ".join(text.replace("`", "'").split())


def _limit(max_length: int, sentence: SentenceFacts | None) -> str:
    longest = (sentence and sentence.max_length) or max_length
    return f"* At most {longest} tokens, as it was judged; of a longer text the rest must be cut off."


def _rows(results: Mapping[str, Any], prefix: str = ""):
    for key, value in results.items():
        if isinstance(value, Mapping):
            yield from _rows(value, f"{prefix}{escaped(key)} ")
        elif isinstance(value, float):
            yield f"{prefix}{escaped(key)}", f"{value:.4g}"
        elif isinstance(value, str | int):
            yield f"{prefix}{escaped(key)}", escaped(value)
