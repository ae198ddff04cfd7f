"""Every encoder against torch in three steps: outputs, gradients, one update. Goldens: golden/make.py."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util

from codir_jax.convert.pretrained import load_pretrained
from codir_jax.models.contract import family
from codir_jax.models.heads import build_model
from codir_jax.models.masked_lm import decoder

GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(folder.name for folder in GOLDEN.iterdir() if folder.is_dir())
# What these have beside others is forward alone, or in their family's classifier: their gradients may wait.
FORWARD = ("xlm_roberta_seqcls", "distilbert_mlm", "mpnet_mlm", "electra_mlm", "modernbert_mlm", "deberta_v2_mlm")
STEPPED = [pytest.param(name, marks=[pytest.mark.slow] * (name in FORWARD)) for name in NAMES]
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class Golden:
    def __init__(self, name):
        self.name = name
        self.head = "masked_lm" if name.endswith("mlm") else "classification"
        self.io = dict(np.load(GOLDEN / name / "io.npz"))
        self.loaded = load_pretrained(GOLDEN / name, head=self.head)
        self.config, self.params = self.loaded.config, self.loaded.params
        self.model = build_model(self.config, self.head, self.loaded.num_labels)
        self.inputs = [self.io[key].astype(np.int32) for key in INPUTS]
        self.forward = jax.jit(lambda params, *inputs: self.model.apply({"params": params}, *inputs))
        self.keys = family(self.config.family).keys(self.config, self.head)

    def apply(self, params, *inputs):
        return self.forward(params, *(inputs or self.inputs))

    def loss(self, params):
        """(mean over labels, outputs)."""
        labels, out = self.io["labels"].astype(np.int32), self.model.apply({"params": params}, *self.inputs)
        losses = optax.softmax_cross_entropy_with_integer_labels(out.logits, np.maximum(labels, 0))
        return jnp.sum(losses * (labels >= 0)) / np.sum(labels >= 0), out

    @functools.cached_property
    def stepped(self):
        """(outputs, loss, gradients, weights after one AdamW update with the numbers of golden/make.py)."""
        tx = optax.adamw(1e-2, b1=0.9, b2=0.999, eps=1e-4, weight_decay=0.01)

        @jax.jit
        def step(params):
            (loss, out), grads = jax.value_and_grad(self.loss, has_aux=True)(params)
            updates, _ = tx.update(grads, tx.init(params), params)
            return out, loss, grads, optax.apply_updates(params, updates)

        return step(self.params)

    def compare(self, tree, kind, atol):
        """Every tensor stored as `kind` against the tree's, in torch's layout."""
        flat, compared = traverse_util.flatten_dict(tree), 0
        for path, key in self.keys.items():
            if f"{kind}/{key.name}" in self.io:
                ours = np.asarray(flat[path])
                expected = self.io[f"{kind}/{key.name}"]
                np.testing.assert_allclose(ours.T if key.transpose else ours, expected, atol=atol, err_msg=key.name)
                compared += 1
        assert compared == sum(name.startswith(f"{kind}/") for name in self.io)
        assert compared > 16  # a layer, the embeddings and the head


cached = functools.cache(Golden)  # one compilation per model for all tests


@pytest.fixture(params=NAMES)
def golden(request):
    return cached(request.param)


@pytest.fixture(params=["bert_seqcls", "roberta_seqcls"])
def classifier(request):
    return cached(request.param)


def test_every_hidden_state_and_the_logits_equal_torch(golden):
    out = golden.apply(golden.params) if golden.name in FORWARD else golden.stepped[0]
    assert len(out.hidden_states) == golden.config.num_layers + 1
    # In transformers' DeBERTa padding looks at nothing; here it looks at the text, as it does in all other families.
    kept = golden.io["attention_mask"] > 0 if golden.config.family == "deberta-v2" else slice(None)
    for i, ours in enumerate(out.hidden_states):
        np.testing.assert_allclose(ours[kept], golden.io[f"hidden_{i}"][kept], atol=1e-5)
    kept = kept if golden.head == "masked_lm" else slice(None)
    np.testing.assert_allclose(out.logits[kept], golden.io["logits"][kept], atol=1e-5)


@pytest.mark.parametrize("name", STEPPED)
def test_loss_and_gradients_equal_torch(name):
    golden = cached(name)
    _, loss, grads, _ = golden.stepped
    np.testing.assert_allclose(loss, golden.io["loss"], rtol=1e-5)
    golden.compare(grads, "grad", atol=1e-5)


@pytest.mark.parametrize("name", [one for one in STEPPED if one.values[0].endswith("seqcls")])
def test_one_adamw_update_equals_torch(name):
    *_, updated = cached(name).stepped
    cached(name).compare(updated, "updated", atol=1e-5)


def test_masked_lm_at_positions_equals_those_columns_of_all():
    golden = cached("bert_mlm")
    positions = np.array([[1, 6], [0, 3], [1, 0]], np.int32)
    some = jax.jit(golden.model.apply)({"params": golden.params}, *golden.inputs, positions=positions)
    every = golden.apply(golden.params)
    expected = np.take_along_axis(np.asarray(every.logits), positions[..., None], axis=1)
    np.testing.assert_allclose(some.logits, expected, atol=1e-6)
    params = {"params": golden.params}
    output = jax.jit(functools.partial(golden.model.apply, method="states"))(
        params, *golden.inputs, positions=positions, words=golden.model.apply(params, golden.inputs[0], method="words")
    )
    table, bias = decoder(golden.params)
    np.testing.assert_allclose(output.states @ table.T + bias, expected, atol=1e-6)
    np.testing.assert_allclose(output.hidden_states[-1], every.hidden_states[-1], atol=1e-6)


def test_padding_changes_nothing(classifier):
    """Four more columns of padding, and other token types there."""
    pad = classifier.config.pad_token_id
    ids, mask, types = classifier.inputs
    wide = [np.pad(ids, ((0, 0), (0, 4)), constant_values=pad), *(np.pad(x, ((0, 0), (0, 4))) for x in (mask, types))]
    narrow, padded = classifier.apply(classifier.params), classifier.apply(classifier.params, *wide)
    np.testing.assert_allclose(padded.logits, narrow.logits, atol=1e-6)
    real = mask[..., None]
    for a, b in zip(narrow.hidden_states, padded.hidden_states, strict=True):
        np.testing.assert_allclose(b[:, : ids.shape[1]] * real, a * real, atol=1e-5)


def test_what_stands_in_padding_does_not_reach_the_logits():
    golden = cached("bert_seqcls")
    ids, mask, types = golden.inputs
    other = np.where(mask > 0, ids, 17).astype(np.int32)
    changed = golden.apply(golden.params, other, mask, types).logits
    np.testing.assert_allclose(changed, golden.apply(golden.params).logits, atol=1e-6)


def test_a_row_without_any_token_is_finite_in_output_and_gradient(classifier):
    ids, mask, types = (x.copy() for x in classifier.inputs)
    ids[0], mask[0] = classifier.config.pad_token_id, 0

    def total(params):
        return jnp.sum(classifier.apply(params, ids, mask, types).logits)

    value, grads = jax.jit(jax.value_and_grad(total))(classifier.params)
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))


def test_token_types_matter_to_bert():
    golden = cached("bert_seqcls")
    ids, mask, types = golden.inputs
    assert types.any()
    without = golden.apply(golden.params, ids, mask, np.zeros_like(types)).logits
    assert np.abs(np.asarray(without) - golden.io["logits"]).max() > 1e-3


@pytest.mark.parametrize(
    "classifier", ["bert_seqcls", "roberta_seqcls", "modernbert_seqcls", "deberta_v2_seqcls"], indirect=True
)
def test_bfloat16_computes_near_float32_with_float32_logits(classifier):
    model = build_model(classifier.config, "classification", 3, dtype="bfloat16")
    out = jax.jit(model.apply)({"params": classifier.params}, *classifier.inputs)
    assert out.logits.dtype == jnp.float32
    assert out.hidden_states[-1].dtype == jnp.bfloat16
    np.testing.assert_allclose(out.logits, classifier.io["logits"], atol=0.1)


@pytest.mark.parametrize("name", ["bert_seqcls", "roberta_seqcls"])
def test_an_input_longer_than_the_positions_is_refused(name):
    golden = cached(name)
    usable = {"bert_seqcls": 20, "roberta_seqcls": 18}[name]  # 20 rows; RoBERTa's first two are not for tokens
    fits = np.full((1, usable), 5, np.int32)
    assert np.isfinite(golden.apply(golden.params, fits, np.ones_like(fits), np.zeros_like(fits)).logits).all()
    long = np.full((1, usable + 1), 5, np.int32)
    with pytest.raises(ValueError, match=rf"input of {usable + 1} tokens.*positions for {usable}"):
        golden.apply(golden.params, long, np.ones_like(long), np.zeros_like(long))
