"""Sentences scored, and n-best lists scored again, by a model in a folder; output files appear whole."""

import json
import sys

import numpy as np

from codir_jax.convert.formats.contract import HUGGINGFACE
from codir_jax.data import nbest as nbest_lib
from codir_jax.data import text_stream
from codir_jax.data.data_error import DataError
from codir_jax.evaluation import rescoring
from codir_jax.evaluation.rescoring import NBest, Weights
from codir_jax.predict.load import load_scorer
from codir_jax.processes import whole
from codir_jax.processes.user_error import UserError

_TEXTS_AT_A_TIME = 1024


def warn(model) -> str:
    """What must be known of a model's scores; "" where they are log probabilities."""
    if model.is_probability:
        return ""
    told = "these scores are not log probabilities: compare them with each other, not with those of another model"
    if model.noise is None:
        return told
    log_z, effective = model.log_z()
    return (
        f"{told}; ln Z {log_z:.2f} (importance sampling, 2,000 sentences of the noise model, {effective:.0f} effective)"
    )


def score(
    model_path: str, input_path: str, output: str, *, text_column: str, batch_size: int, format: str = HUGGINGFACE
) -> int:
    """Writes a line a sentence: log score, per word, words, unknown words, text, apart by tabs; returns their number.

    Lines that are empty or no text are refused by their numbers, before the model is read, and those that are longer
    than it reads before it runs.
    """
    whole.check_output(output, inputs=[model_path, input_path], may_replace=False)
    lines = checked_lines(input_path, text_column)
    model = load_scorer(model_path, batch_size=batch_size, format=format)
    if faults := model.faults(lines):
        raise DataError([f"{input_path}:{place + 1}: {what}" for place, what in faults])
    if told := warn(model):
        print(f"note: {told}", file=sys.stderr)  # beside scores on standard output
    count = 0
    with whole.file(output) as file:
        file.write("log_score\tper_word\twords\tunknown\ttext\n")
        for start in range(0, len(lines), _TEXTS_AT_A_TIME):
            part = lines[start : start + _TEXTS_AT_A_TIME]
            for text, one in zip(part, model.score(part), strict=True):
                text = " ".join(text.split())
                row = f"{one.log_score:.4f}\t{one.per_word:.4f}\t{one.num_words}\t{one.num_unknown}\t{text}\n"
                file.write(row)
                count += 1
    return count


def checked_lines(path: str, column: str) -> list[str]:
    """The sentences of a file, in order.

    Raises:
      DataError: with the numbers of lines that are empty or hold NUL characters.
      UserError: there is none.
    """
    lines, problems = [], []
    for number, text in enumerate(text_stream.texts(path, column), 1):
        lines.append(text)
        if not text.strip():
            problems.append(f"{path}:{number}: an empty line has no score; remove it")
        elif "\0" in text:
            problems.append(f"{path}:{number}: a NUL character; it is no text")
    if problems:
        raise DataError(problems)
    if not lines:
        raise UserError(f"{path} has no sentence; give one a line")
    return lines


def rescore(
    model_path: str,
    input_path: str,
    output: str,
    *,
    reference: str,
    tune_on: str,
    tune_reference: str,
    weights: Weights,
    batch_size: int,
    format: str = HUGGINGFACE,
) -> dict:
    """Ranks the candidates of n-best lists anew, and writes a JSON line a list: best, ranked, totals, word errors.

    Args:
      reference, tune_reference: Kaldi texts; "": the references are in the lists, or not known.
      tune_on: lists on which the weights are tuned; "": `weights`.

    Returns:
      What is told: weights, lists, and where references are known wer and accuracy, and those of the first candidates.
    """
    inputs = [model_path, input_path, *filter(None, (reference, tune_on, tune_reference))]
    for path in [output] if output == "-" else [output, f"{output}.weights.json"]:
        whole.check_output(path, inputs=inputs, may_replace=False)
    lists = _lists(input_path, reference)
    tuning = _lists(tune_on, tune_reference) if tune_on else []
    if tune_on and any(one.reference is None for one in tuning):
        missing = next(one.key for one in tuning if one.reference is None)
        raise UserError(f"{tune_on}: {missing!r} has no reference, and weights are tuned by word errors; give them all")
    model = load_scorer(model_path, batch_size=batch_size, format=format)
    for path, own in ((input_path, lists), (tune_on, tuning)):
        if faults := [f"{path}: {one.key!r}: {what}" for one in own for _, what in model.faults(one.candidates)]:
            raise DataError(faults)
    if told := warn(model):
        print(f"note: {told}", file=sys.stderr)  # beside scores on standard output
    chosen = rescoring.tuned(tuning, _scores(model, tuning)) if tune_on else weights
    scores = _scores(model, lists)
    told = {"model": model_path, "model_weight": chosen.model, "length_weight": chosen.length, "lists": len(lists)}
    unknown = sum(one.reference is None for one in lists)
    if 0 < unknown < len(lists):
        print(f"note: {unknown} of {len(lists)} lists have no reference: no word error rate is told", file=sys.stderr)
    if not unknown:
        found = rescoring.errors(lists, scores, chosen)
        first = np.array([rescoring.word_errors(one.candidates[0], one.reference) for one in lists])
        told |= {"wer": rescoring.wer(found), "accuracy": float(found[:, 2].mean())}
        told["wer_of_first_candidates"] = float(first.sum() / max(found[:, 1].sum(), 1))
    with whole.file(output) as file:
        for one, own in zip(lists, scores, strict=True):
            order = rescoring.ranking(one, own, chosen)
            row = {"id": one.key, "best": one.candidates[order[0]]}
            row["ranked"] = [one.candidates[place] for place in order]
            row["totals"] = [round(float(x), 4) for x in rescoring.totals(one, own, chosen)[order]]
            if one.reference is not None:
                row["word_errors"] = rescoring.word_errors(row["best"], one.reference)
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    if output != "-":
        with whole.file(f"{output}.weights.json") as file:
            file.write(json.dumps(told, indent=2) + "\n")
    return told


def _lists(path: str, reference: str) -> list[NBest]:
    return [NBest(*one) for one in nbest_lib.read(path, reference)]


def _scores(model, lists) -> list[np.ndarray]:
    """The log scores of the candidates of each list; equal candidates are scored once."""
    texts = list(dict.fromkeys(text for one in lists for text in one.candidates))
    found = dict(zip(texts, (one.log_score for one in model.score(texts)), strict=True)) if texts else {}
    return [np.array([found[text] for text in one.candidates]) for one in lists]
