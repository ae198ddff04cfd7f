"""The heads that an encoder may have, and what the rest of the house asks about each: the table `HEADS`.

A head has one parameter tree for all families: {"encoder", "pooler", "classifier"}, {"encoder", "transform",
"transform_norm", "decoder_bias"}, {"encoder"} or {"encoder", "output_bias"}; the first with "pooler_norm", the third
with "pooler", the last with "output_embedding" where the config says so. A new head is a file with its Linen module,
and an entry of `HEADS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from codir_jax.models.contract import Card, Family, HeadSpec, family
from codir_jax.models.language_model import LanguageModel
from codir_jax.models.masked_lm import MaskedLM
from codir_jax.models.remat import REMAT
from codir_jax.models.sentence_embedding import SentenceEmbedding
from codir_jax.models.sequence_classifier import SequenceClassifier
from codir_jax.models.transformer import TransformerConfig
from codir_jax.processes.user_error import UserError


def build_model(
    config: TransformerConfig,
    head: str = "classification",
    num_labels: int = 2,
    dtype: Any = jnp.float32,
    remat: str = "none",
) -> nn.Module:
    """The module for a head of `HEADS`; regression is "classification" with num_labels 1.

    `num_labels` is unused by a head without labels. `remat`, of `remat.REMAT`, is what the forward pass keeps for
    the backward pass.
    """
    if remat not in REMAT:
        raise UserError(f"unknown remat {remat!r}; known: {', '.join(REMAT)}")
    check_serves(family(config.family), head)
    return head_spec(head).build(config, num_labels, jnp.dtype(dtype), remat)


def check_serves(of_family: Family, head: str) -> None:
    """Refuses a head that models of a family have not.

    Raises:
        UserError: with those that they have.
    """
    if of_family.heads and head not in of_family.heads:
        raise UserError(f"{of_family.title} models have no head {head!r}; known: {', '.join(of_family.heads)}")


def head_spec(name: str) -> HeadSpec:
    """The facts of a head; ValueError for an unknown name."""
    if name not in HEADS:
        raise ValueError(f"unknown head {name!r}; known: {', '.join(HEADS)}")
    return HEADS[name]


def num_labels_of(params: Mapping[str, Any], head: str) -> int | None:
    """The number of labels of weights with that head; None for a head without labels."""
    path = head_spec(head).labels
    if path is None:
        return None
    leaf = params
    for name in path:
        leaf = leaf[name]
    return leaf.shape[0]


def init_params(model: nn.Module, rng: jax.Array) -> dict:
    """Fresh float32 weights in logical-axis boxes: normal(0, initializer_range), zero biases, unit norms.

    Pure: `jax.eval_shape(functools.partial(init_params, model), rng)` gives shapes with their axes, and
    `sharding.rules.unbox` the plain nested dict.
    """
    ids = jnp.zeros((1, 1), jnp.int32)
    return model.init(rng, ids, jnp.ones_like(ids), jnp.zeros_like(ids))["params"]


def abstract_params(model: nn.Module) -> dict:
    """Boxed tree of jax.ShapeDtypeStruct: what `init_params` would return, at no cost."""
    return jax.eval_shape(lambda: init_params(model, jax.random.key(0)))


def _linear(config: TransformerConfig) -> str:
    return "linear" if config.head_bias else "kernel"


def _norm(config: TransformerConfig) -> str:
    return "norm" if config.norm_bias else "scale"


def _weights_of_classifier(config: TransformerConfig) -> dict[str, str]:
    norm = {"pooler_norm": _norm(config)} if config.classifier_norm else {}
    return {"pooler": _linear(config), **norm, "classifier": "linear"}


def _build_classifier(config: TransformerConfig, num_labels: int, dtype: Any, remat: str) -> SequenceClassifier:
    if num_labels < 1:
        raise ValueError(f"num_labels must be at least 1, got {num_labels}")
    return SequenceClassifier(config, num_labels, dtype, remat)


def _classifies(
    label_names: Sequence[str] | None, is_regression: bool, is_multi_label: bool, is_pair: bool | None
) -> str:
    how_many = "any number" if is_multi_label else "one"
    kind = f"{how_many} of {len(label_names)} classes" if label_names else "classes"
    kind = "a regression score" if is_regression else kind
    return f"gives {kind} to {_TAKES[is_pair]}"


_TAKES = {None: "a text or a pair of texts", False: "a text", True: "a pair of texts"}


def _in_transformers(auto_class: str, text: str) -> tuple[str, ...]:
    return (
        f"from transformers import {auto_class}, AutoTokenizer  # needs torch",
        "",
        'tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")',
        f'model = {auto_class}.from_pretrained("path/to/this/folder")',
        f'print(model(**tokenizer({text}, truncation=True, return_tensors="pt")).logits)',
    )


def _in_jax(call: str) -> tuple[str, ...]:
    return ("import codir_jax", "", 'model = codir_jax.load("path/to/this/folder")', f"print({call})")


HEADS: dict[str, HeadSpec] = {
    "classification": HeadSpec(
        build=_build_classifier,
        weights=_weights_of_classifier,
        labels=("classifier", "bias"),
        architecture="ForSequenceClassification",
        answer="logits",
        counts="num_labels",
        # On one vector of the text: the pooler, then the labels.
        flops=lambda config, num_labels: 2.0 * config.hidden_size * (config.hidden_size + num_labels),
        card=Card(
            pipeline_tag="text-classification",
            does=_classifies,
            library="transformers",
            auto_class="AutoModelForSequenceClassification",
            usage=_in_transformers("AutoModelForSequenceClassification", '"A text."'),
            in_jax=_in_jax('model(["A text."])'),
            pair_usage=_in_transformers("AutoModelForSequenceClassification", '"A text.", "Another one."'),
            pair_in_jax=_in_jax('model([("A text.", "Another one.")])'),
        ),
    ),
    "masked_lm": HeadSpec(
        build=lambda config, num_labels, dtype, remat: MaskedLM(config, dtype, remat),
        weights=lambda config: {
            "transform": _linear(config),
            "transform_norm": _norm(config),
            "decoder_bias": "array",
        },
        labels=None,
        architecture="ForMaskedLM",
        answer="logits",
        counts="num_predictions",
        # On each predicted token: the transform, then the vocabulary.
        flops=lambda config, num_predictions: (
            2.0 * num_predictions * config.word_width * (config.hidden_size + config.vocab_size)
        ),
        card=Card(
            pipeline_tag="fill-mask",
            does=lambda *_: "fills in masked tokens; fine-tune it for a task of your own",
            library="transformers",
            auto_class="AutoModelForMaskedLM",
            usage=_in_transformers("AutoModelForMaskedLM", 'f"A {tokenizer.mask_token} text."'),
            in_jax=(),
        ),
        is_served=False,  # it is fine-tuned for a task
    ),
    "embedding": HeadSpec(
        build=lambda config, num_labels, dtype, remat: SentenceEmbedding(config, dtype, remat),
        weights=lambda config: {"pooler": "linear"} if config.pooling == "pooler" else {},
        labels=None,
        architecture="Model",
        answer="vectors",
        counts="",
        flops=lambda config, _: 2.0 * config.hidden_size**2 if config.pooling == "pooler" else 0.0,
        card=Card(
            pipeline_tag="sentence-similarity",
            does=lambda *_: "makes a vector of a text, near those of texts that mean the same",
            library="sentence-transformers",
            auto_class="AutoModel",
            usage=(
                "from sentence_transformers import SentenceTransformer  # needs torch",
                "",
                'model = SentenceTransformer("path/to/this/folder")',
                'vectors = model.encode(["A text.", "Another text."])',
                "print(model.similarity(vectors, vectors))",
            ),
            in_jax=_in_jax('model.encode(["A text.", "Another text."])'),
        ),
    ),
    "language_model": HeadSpec(
        build=lambda config, num_labels, dtype, remat: LanguageModel(config, dtype, remat),
        weights=lambda config: {
            **({} if config.tie_embeddings else {"output_embedding": "array"}),
            "output_bias": "array",
        },
        labels=None,
        architecture="ForLanguageModeling",
        answer="logits",
        counts="num_predictions",
        flops=lambda config, num_predictions: 2.0 * num_predictions * config.decoder_size * config.vocab_size,
        card=Card(
            pipeline_tag="text-generation",
            does=lambda *_: "scores sentences and tells likely next words",
            library="codir_jax",
            auto_class="",
            usage=_in_jax('model.score(["A text."]), model.next_words("A", 5)'),
            in_jax=(),
        ),
    ),
}
# The same weights and costs as a language model's: only what a number of the output stands for differs.
HEADS["sentence_score"] = HEADS["language_model"]._replace(
    architecture="ForSentenceScoring",
    card=HEADS["language_model"].card._replace(
        does=lambda *_: "scores whole sentences, to choose among candidates",
        usage=_in_jax('model.score(["A text."])'),
    ),
)
