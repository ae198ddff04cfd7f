"""The `export` verb: a workdir's best model, or a folder, as a Hugging Face folder with a parity verdict."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from codir_jax.compression import packed
from codir_jax.convert import export, pretrained, sentence_folder
from codir_jax.convert.folder import NOISE_FILE, WEIGHTS, copy_noise, model_folder, without_path
from codir_jax.convert.formats import contract
from codir_jax.convert.model_card import Provenance
from codir_jax.data import dataset, pipeline
from codir_jax.data import tokenizer as tokenizer_lib
from codir_jax.data.length_buckets import ladder
from codir_jax.data.splits import RawSplit
from codir_jax.processes import claims, whole
from codir_jax.processes.user_error import UserError

# A few texts of different lengths, on which an export is compared with its source where no other texts are given.
TEXTS = ("A small model.", "The keys to the cabinet are on the table that nobody uses any more.", "No.")
# Of an earlier export in the same folder, where the new one has them not.
_STALE = (WEIGHTS, packed.FILE, sentence_folder.MODULES, NOISE_FILE)


def export_model(
    model: str,
    output: str,
    formats: Sequence[str] = (),
    *,
    license: str = "",
    language: str = "",
    base_model: str = "",
    data: str = "",
    test: Mapping[str, float] | None = None,
    sample: RawSplit | None = None,
) -> str:
    """Exports a classifier, a masked LM or a sentence encoder; returns the parity verdicts in words.

    A format whose runtime computes something else is left out, and its verdict says so.

    Args:
      model: workdir of `codir train`, folder of `compress`, Hugging Face folder or hub name.
      output: folder to write; an earlier export in it stays as it is until the new one is whole and judged.
      formats: of `convert.formats`, that it has beside the Hugging Face files.
      license, language, base_model, data: for the card, see `model_card.Provenance`. Empty: the card of the model that
        `base_model`, or the run's config, names; the last two as the run has them. Of a job's folder, and of an export,
        what its card tells.
      test: scores for the card, metric -> value.
      sample: a few texts of the model's task, on which it is compared.

    Raises:
      UserError: the model has no trained head, a format needs what is not installed, or the folder is not empty and not
        an export.
      convert.export.ParityError: logits differ by more than 1e-4, or vectors by more than 1e-5, after re-reading.
    """
    output = os.path.expanduser(output)
    claims.check(output, claims.EXPORT, "--output")
    folder = model_folder(model, "--model")
    own_card = _card_of(folder)
    if job := _job_of(model):
        model = str(Path(model).expanduser() / job["exported"])
        base_model, test = base_model or job["given"], test or job["models"][job["exported"]].get("test")
    head = pretrained.stored_head(folder)
    contract.require(formats, head)
    source = pretrained.load_trained(folder, head)
    tokenizer = tokenizer_lib.load_tokenizer(folder, source.config.vocab_size)
    texts = RawSplit(list(TEXTS)) if sample is None else RawSplit(sample.texts_a, sample.texts_b)
    batch = sample_batch(tokenizer, min(source.config.max_length, 64), texts)
    results, config = (
        json.loads(path.read_text(encoding="utf-8")) if (path := Path(model) / name).exists() else None
        for name in ("results.json", "config.json")
    )
    is_run = config is not None and "objective" in config  # else the config.json of a Hugging Face folder
    config = config if is_run else None
    results = results or {"metrics": [{"name": name} for name in next(iter(_scores_in(own_card).values()), {})]}
    card_results = {key: results[key] for key in ("dev", "seed", "parameters", "teacher_dev") if results.get(key)}
    card_results = _scores_in(own_card) | card_results | ({"test": dict(test)} if test else {})
    license, language = license or own_card.get("license", ""), language or _languages(own_card)
    base_model, data = base_model or own_card.get("base_model", ""), data or _data_in(own_card)
    claims.claim(output, claims.EXPORT, "--output")
    whole.clean(Path(output))
    with whole.files_into(Path(output), last="config.json", stale=_STALE + contract.files()) as aside:
        verdict = export.export(
            aside,
            source.config,
            source.params,
            tokenizer,
            head=head,
            sentence=source.sentence,
            sample_batch=batch,
            results=card_results or None,
            training_config=_without_paths(config) if config else None,
            teacher_name=(config or {}).get("teacher", {}).get("path", ""),
            hf_config=source.hf_config,
            provenance=_provenance(config or {}, results, license, language, base_model, data),
            title=Path(output).resolve().name,
            labels=source.labels,
        )
        copy_noise(source.folder, aside)
        others = contract.write(aside, formats, head, batch)
        with (aside / "README.md").open("a", encoding="utf-8") as card:
            card.write(contract.in_card(contract.present(aside, formats), head))
    return "\n".join(map(str, (verdict, *others)))


def push(folder: str, name: str) -> str:
    """Uploads an exported folder to the Hugging Face hub, private if it is new; returns its address.

    Args:
      folder: as `export_model` wrote it. name: "user/my-small-model".

    Raises:
      UserError: the hub refuses: no token, no such user, no network.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    api = HfApi()
    try:
        address = api.create_repo(name, private=True, exist_ok=True)
        api.upload_folder(repo_id=address.repo_id, folder_path=folder, commit_message="Exported by codir_jax")
    except (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OSError) as error:
        raise UserError(
            f"--push_to_hub={name}: the hub refuses it ({type(error).__name__}: {str(error).strip().splitlines()[0]}). "
            f"`hf auth login` makes a token; the export lies in {folder}"
        ) from error
    return str(address)


def _provenance(config, results, license: str, language: str, base_model: str, data: str) -> Provenance:
    """What is given; the rest from the run, and licence and language from the card of the base model."""
    base_model = base_model or config.get("teacher", {}).get("path") or config.get("student", {}).get("path") or ""
    of_base = _card_of(base_model)
    return Provenance(
        license=license or of_base.get("license") or "",
        language=language or _languages(of_base),
        base_model=base_model,
        data=data or Path(config.get("data", {}).get("train_path", "")).name or results.get("task", ""),
        metrics=tuple(metric["name"] for metric in results.get("metrics", ())),
    )


def _job_of(model: str) -> dict[str, Any]:
    """The results of a job that exported one of its stages; {} where the folder is of none."""
    folder = Path(model).expanduser()
    path = folder / "results.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    exported = results.get("exported", "")
    return results if exported and (folder / exported / "results.json").is_file() else {}


def _scores_in(card: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Split -> metric -> score, of a card's front matter."""
    found: dict[str, dict[str, float]] = {}
    for result in _judged_in(card):
        split = (result.get("dataset") or {}).get("split") or "dev"
        scores = {metric["type"]: metric["value"] for metric in result.get("metrics") or []}
        found.setdefault(split, {}).update(scores)
    return found


def _data_in(card: Mapping[str, Any]) -> str:
    """The name of the first data that a card tells scores of, "" without any."""
    return next(((result.get("dataset") or {}).get("name") or "" for result in _judged_in(card)), "")


def _judged_in(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The results of a card's front matter: each of one data set."""
    return [result for of_model in card.get("model-index") or [] for result in of_model.get("results") or []]


def _languages(card: Mapping[str, Any]) -> str:
    given = card.get("language") or ""
    return given if isinstance(given, str) else ",".join(map(str, given))


def _card_of(model: str) -> dict[str, Any]:
    """The front matter of a model folder's README.md; {} where there is none that can be read."""
    from huggingface_hub import ModelCard

    path = Path(model) / "README.md"
    if not model or not path.is_file():
        return {}
    try:
        return ModelCard(path.read_text(encoding="utf-8")).data.to_dict()
    except Exception:  # a card is prose of others: none that is broken stops an export
        return {}


def sample_batch(tokenizer, max_length: int, texts: RawSplit) -> dict[str, np.ndarray]:
    """The texts as a padded batch of `data.batch`."""
    examples, _ = dataset.tokenize_split(texts, tokenizer, max_length, False)
    return pipeline.collate(
        examples,
        np.arange(len(texts)),
        batch_size=len(texts),
        length_buckets=ladder(max_length),
        pad_token_id=tokenizer.pad_token_id,
    )


def _without_paths(config: dict[str, Any]) -> dict[str, Any]:
    """The config for a model card: of a path of this machine only the last part is told, a hub name whole."""
    told: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            told[key] = _without_paths(value)
        elif isinstance(value, str) and key in ("path", "tokenizer_path"):  # a model's: may be a hub name
            told[key] = without_path(value)
        elif isinstance(value, str) and key.endswith(("path", "_dir", "sources")):
            told[key] = Path(value).name
        else:
            told[key] = value
    return told
