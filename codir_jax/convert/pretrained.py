"""Hugging Face checkpoints in: `config.json` and safetensors -> sizes and weights, without torch."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util

from codir_jax.compression import factors
from codir_jax.convert import fingerprint, sentence_folder
from codir_jax.convert import labels as labels_lib
from codir_jax.convert.folder import Tensors, find_folder, read_config
from codir_jax.convert.labels import Labels
from codir_jax.convert.sentence_folder import SentenceFacts
from codir_jax.models import contract, heads
from codir_jax.models.contract import Family, HeadSpec
from codir_jax.models.hf_keys import HfKey
from codir_jax.models.transformer import TransformerConfig
from codir_jax.processes.user_error import UserError
from codir_jax.sharding.rules import unbox


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A checkpoint as read.

    Attributes:
        config: the encoder's sizes.
        params: nested dict of numpy float32, unboxed, the tree of `heads.build_model(config, head, num_labels)`.
        hf_config: its `config.json`, whole.
        has_head: True when every head weight came from the checkpoint; False when some were drawn (`new_weights`).
        labels: what the checkpoint says of them; names and kind of those of a trained head only.
        num_labels: outputs of a head with labels; 1 is regression or one score.
        folder: where it was read from.
        fingerprint: `fingerprint.of_model(config, params)`.
        new_weights: paths, "classifier/kernel", of the head weights that were drawn at random.
        sentence: how a sentence encoder's vector is made; None with another head.
    """

    config: TransformerConfig
    params: dict[str, Any]
    hf_config: dict[str, Any]
    has_head: bool
    labels: Labels
    num_labels: int
    folder: Path
    fingerprint: str
    new_weights: tuple[str, ...]
    sentence: SentenceFacts | None = None


def read_sizes(folder: Path) -> TransformerConfig:
    """The sizes in a folder's config.json; its weights are not looked at.

    Raises:
        UserError: as `load_pretrained`.
    """
    facts = sentence_folder.read(folder)
    return _read_sizes(folder, read_config(folder), facts.pooling if facts else None)[1]


def stored_head(path_or_name: str | os.PathLike) -> str:
    """The head that a checkpoint's files say it has, of `heads.HEADS`; the first one where they say none."""
    folder = find_folder(path_or_name)
    if (folder / sentence_folder.MODULES).is_file():  # whatever its encoder was trained for before
        return "embedding"
    for architecture in _architectures(folder, read_config(folder)):
        for name, spec in heads.HEADS.items():
            if architecture.endswith(spec.architecture):
                return name
    return next(iter(heads.HEADS))


def _architectures(folder: Path, hf_config: Mapping[str, Any]) -> list[str]:
    told = hf_config.get("architectures") or []
    if not isinstance(told, list) or not all(isinstance(name, str) for name in told):
        raise UserError(f"{folder / 'config.json'}: architectures: expected a list of class names, got {told!r}")
    return told


def load_pretrained(
    path_or_name: str | os.PathLike,
    *,
    head: str = "classification",
    num_labels: int | None = None,
    pooling: str | None = None,
    rng_seed: int = 0,
) -> Pretrained:
    """The checkpoint in a local folder, or of a name on the Hugging Face hub.

    Head weights that the checkpoint lacks, or has for another number of labels, are drawn from normal(0,
    initializer_range) by `rng_seed`, biases zero; `has_head` says so. An encoder weight that is missing is an error.

    Args:
        path_or_name: a folder with `config.json` and `model.safetensors` (or its sharded index), or "roberta-base".
        head: of `heads.HEADS`.
        num_labels: outputs wanted; None: as in the checkpoint, 2 if it has no head.
        pooling: of `models.pooling.POOLINGS`, with head "embedding"; None: as a sentence-transformers folder says, the
            mean of the tokens where the folder says nothing.
        rng_seed: of the fresh head weights.

    Raises:
        MissingFileError: no such folder, no config.json, no safetensors (with how to convert a `.bin`).
        UserError: another architecture, a damaged file, a missing weight, a weight of another shape.
    """
    folder = find_folder(path_or_name)
    hf_config = read_config(folder)
    _architectures(folder, hf_config)
    spec = heads.head_spec(head)
    facts = (sentence_folder.read(folder) or SentenceFacts()) if spec.is_base else None
    if facts and pooling not in (None, facts.pooling):
        facts = dataclasses.replace(facts, pooling=pooling, dense="")
    family, config = _read_sizes(folder, hf_config, facts.pooling if facts else None, head)
    with Tensors(folder, family.prefix, family.roots, family.moved(hf_config)) as tensors:
        _check_size(folder, tensors, config)
        keys = family.keys(config, head)
        if num_labels is None:
            num_labels = _stored_num_labels(tensors, keys, spec) or 2
        shapes = _shapes(config, head, num_labels)
        _check_weights(folder, tensors, keys, shapes, spec)
        _check_tied(tensors, {name: keys[path].name for name, path in family.tied.get(head, {}).items()})
        params, new_weights = {}, []
        rng = np.random.default_rng(rng_seed)
        for path, key in keys.items():
            if key.name in tensors and tensors.shape(key.name) == _hf_shape(shapes[path], key):
                weight = tensors.weight(key.name)
                params[path] = factors.in_tree(weight.transposed() if key.transpose else weight)
            else:
                params[path] = _fresh(path, shapes[path], config.initializer_range, rng)
                new_weights.append("/".join(path))
    tree = traverse_util.unflatten_dict(params)
    if facts and facts.dense:
        tree["pooler"], new_weights = sentence_folder.read_pooler(folder, facts.dense, config.hidden_size), []
    has_head = not new_weights
    told = Labels(is_regression=spec.labels is not None and num_labels == 1)
    if has_head and spec.labels:
        with _of_config(folder):
            told = labels_lib.read(hf_config, num_labels)
    return Pretrained(
        config=config,
        params=tree,
        hf_config=hf_config,
        has_head=has_head,
        labels=told,
        num_labels=num_labels,
        folder=folder,
        fingerprint=fingerprint.of_model(config, tree),
        new_weights=tuple(new_weights),
        sentence=facts,
    )


def load_trained(path_or_name: str | os.PathLike, head: str) -> Pretrained:
    """`load_pretrained` of a finished model.

    Raises:
        UserError: also where the checkpoint has no trained head of that name.
    """
    source = load_pretrained(path_or_name, head=head)
    if not source.has_head:
        kind = head.replace("_", " ")
        raise UserError(f"{path_or_name} has no trained {kind} head ({', '.join(source.new_weights)} are missing)")
    return source


def _read_sizes(
    folder: Path, hf_config: Mapping[str, Any], pooling: str | None, head: str | None = None
) -> tuple[Family, Any]:
    model_type, known = hf_config.get("model_type"), contract.families()
    with _of_config(folder):
        if not isinstance(model_type, str) or model_type not in known:
            raise UserError(f"model_type {model_type!r} is not supported; known: {', '.join(known)}")
        if head is not None:
            heads.check_serves(known[model_type], head)
        config = known[model_type].read_config(hf_config)
        return known[model_type], config if pooling is None else dataclasses.replace(config, pooling=pooling)


@contextlib.contextmanager
def _of_config(folder: Path) -> Iterator[None]:
    """Names the file in what is raised about its content."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{folder / 'config.json'}: {error}") from error


def _check_size(folder: Path, tensors: Tensors, config: Any) -> None:
    """Refuses more layers than there are tensors, before a table of their names is made."""
    if config.num_layers > (count := len(list(tensors))):
        raise UserError(
            f"{folder}: config.json asks for {config.num_layers} layers, and the weights are {count} tensors in all; "
            "they are not of one model"
        )


def _shapes(config: TransformerConfig, head: str, num_labels: int) -> dict[tuple[str, ...], tuple[int, ...]]:
    abstract = unbox(heads.abstract_params(heads.build_model(config, head, num_labels)))
    return {path: leaf.shape for path, leaf in traverse_util.flatten_dict(abstract).items()}


def _hf_shape(shape: tuple[int, ...], key: HfKey) -> tuple[int, ...]:
    return shape[::-1] if key.transpose else shape


def _check_weights(folder: Path, tensors: Tensors, keys: Mapping, shapes: Mapping, spec: HeadSpec) -> None:
    """Refuses a missing encoder weight and a wrong shape anywhere; the number of labels may differ."""
    encoder = [key.name for path, key in keys.items() if path[0] == "encoder"]
    missing = [name for name in encoder if name not in tensors]
    if missing:
        raise UserError(
            f"{folder}: {len(missing)} of {len(encoder)} encoder weights are missing, first {missing[:3]}; "
            f"the file has {sorted(tensors)[:3]}, ... Does config.json belong to these weights?"
        )
    for path, key in keys.items():
        if key.name not in tensors:
            continue
        got, expected = tensors.shape(key.name), _hf_shape(shapes[path], key)
        if spec.labels and path[0] == spec.labels[0]:
            got, expected = got[1:], expected[1:]  # another number of labels is a layer to draw anew
        if got != expected:
            raise UserError(
                f"{folder}: {key.name} has shape {tensors.shape(key.name)}, config.json asks for "
                f"{_hf_shape(shapes[path], key)}; they are not of one model"
            )
    if more := tensors.further(key.name for key in keys.values()):
        raise UserError(
            f"{folder}: config.json asks for fewer layers than the weights have: it leaves out {len(more)} tensors, "
            f"first {more[:3]}; correct it, or keep fewer layers by student.init='teacher' and student.num_layers"
        )


def _check_tied(tensors: Tensors, copies: Mapping[str, str]) -> None:
    """The decoder is the word embedding here; a checkpoint that has another one would be read wrongly."""
    for copy, tied in copies.items():
        if copy in tensors and tied in tensors and not np.array_equal(tensors.read(copy), tensors.read(tied)):
            raise UserError(f"{copy} differs from {tied}: an untied masked-LM decoder is not supported")


def _stored_num_labels(tensors: Tensors, keys: Mapping, spec: HeadSpec) -> int | None:
    name = keys[spec.labels].name if spec.labels else None
    return tensors.shape(name)[0] if name in tensors else None


def _fresh(path: tuple[str, ...], shape: tuple[int, ...], scale: float, rng: np.random.Generator) -> np.ndarray:
    if path[-1] == "kernel":
        return rng.normal(0.0, scale, shape).astype(np.float32)
    return (np.ones if path[-1] == "scale" else np.zeros)(shape, np.float32)
