"""Meta-KD against numbers of the released code (alibaba/EasyTransfer), which golden/meta_kd.npz holds with its models:
a tiny teacher and student, dropout 0, a batch with padding, weights, corrupted domains."""

import dataclasses
import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from safetensors.numpy import save_file

from codir_jax.convert import pretrained
from codir_jax.losses import domains as losses
from codir_jax.losses.distillation import soft_target_loss
from codir_jax.models.apply import apply_model, apply_with_scores
from codir_jax.models.heads import build_model
from codir_jax.objectives import domain_feature, meta_distill, meta_teacher
from codir_jax.objectives.contract import Setting, Step, TrainRows
from codir_jax.objectives.heads.classification import Classification
from codir_jax.processes.user_error import UserError
from tests.objectives import tiny

GOLDEN = dict(np.load(Path(__file__).parent / "golden" / "meta_kd.npz"))


def _model(side, folder):
    """(module, params) of one side, read as a Hugging Face folder."""
    tensors = {name.removeprefix(f"{side}/"): x for name, x in GOLDEN.items() if name.startswith(f"{side}/")}
    words, positions = (tensors[f"bert.embeddings.{n}_embeddings.weight"] for n in ("word", "position"))
    sizes = {
        "model_type": "bert",
        "vocab_size": len(words),
        "hidden_size": words.shape[1],
        "intermediate_size": 2 * words.shape[1],
        "num_hidden_layers": int(GOLDEN["num_layers"][0 if side == "teacher" else 1]),
        "num_attention_heads": 4,
        "max_position_embeddings": len(positions),
        "type_vocab_size": 2,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "id2label": {"0": "no", "1": "yes"},
        "label2id": {"no": 0, "yes": 1},
        "architectures": ["BertForSequenceClassification"],
    }
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(sizes))
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, folder / "model.safetensors")
    read = pretrained.load_pretrained(folder, head="classification", num_labels=2)
    assert read.has_head and not read.new_weights
    return build_model(read.config, "classification", 2), read.params


def _domain_weights(side):
    return {
        "embedding": GOLDEN[f"{side}/domain_embedding.weight"],
        "kernel": GOLDEN[f"{side}/corrupt_dense.weight"].T,
        "bias": GOLDEN[f"{side}/corrupt_dense.bias"],
        "classifier_kernel": GOLDEN[f"{side}/domain_classifier.weight"].T,
        "classifier_bias": GOLDEN[f"{side}/domain_classifier.bias"],
    }


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("meta_kd")
    return {side: _model(side, folder / side) for side in ("teacher", "student")}


@pytest.fixture(scope="module")
def batch():
    rows = len(GOLDEN["labels"])
    return {
        "input_ids": GOLDEN["input_ids"].astype(np.int32),
        "attention_mask": GOLDEN["attention_mask"].astype(np.int32),
        "token_type_ids": np.zeros_like(GOLDEN["input_ids"], np.int32),
        "labels": GOLDEN["labels"].astype(np.int32),
        "label_mask": np.ones(rows, np.float32),
        "example_mask": np.ones(rows, np.float32),
        "domain_ids": GOLDEN["domain_ids"].astype(np.int32),
        "example_weights": GOLDEN["sample_weights"],
    }


def _close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * np.abs(theirs).max())


def test_the_teachers_loss_is_the_released_one(models, batch):
    """Its logits are W_c relu(pooler); a Hugging Face classifier has no relu, so the test adds it."""
    module, params = models["teacher"]

    def terms(params, own):
        output = apply_model(module, params, batch, method="vectors")
        head = params["classifier"]
        logits = jax.nn.relu(output.vectors) @ head["kernel"] + head["bias"]
        content = losses.content_mean(output.hidden_states[-1], batch["attention_mask"], legacy_padding=True)
        values = jnp.tanh(domain_feature.feature(own, batch["domain_ids"], content))
        targets = batch["domain_ids"][GOLDEN["permutation"]]
        guesses = domain_feature.domain_logits(own, values)
        return meta_teacher.teacher_terms(logits, guesses, batch["labels"], targets, 0.5), guesses

    own = _domain_weights("teacher")
    values, guesses = jax.jit(terms)(params, own)
    _close(values, GOLDEN["teacher_per_example"])
    _close(guesses, GOLDEN["teacher_domain_logits"])

    def total(params, own):
        return (batch["example_weights"] * terms(params, own)[0]).mean()

    value, (of_params, of_own) = jax.jit(jax.value_and_grad(total, argnums=(0, 1)))(params, own)
    _close(value, GOLDEN["teacher_loss"])
    _close(of_own["kernel"].T, GOLDEN["teacher_grad/corrupt_dense.weight"])
    _close(of_own["embedding"], GOLDEN["teacher_grad/domain_embedding.weight"])
    _close(of_params["classifier"]["kernel"].T, GOLDEN["teacher_grad/classifier.weight"])


def test_raw_scores_are_those_of_torch_and_the_output_is_the_same(models, batch):
    module, params = models["teacher"]
    output, scores = apply_with_scores(module, params, batch)
    assert len(scores) == 4 and scores[0].shape == (4, 4, 10, 10)
    np.testing.assert_array_equal(output.logits, apply_model(module, params, batch).logits)


def _stage_a(models, batch, **changes):
    """(objective, params, frozen) with the released models."""
    config = meta_distill.default_config("released")
    config.update(changes)
    rows = TrainRows(batch["labels"], batch["labels"] >= 0, np.arange(4), False, batch)
    of = Setting(head=Classification(2), student=models["student"][0], teacher=models["teacher"][0], rows=rows)
    objective = meta_distill.make(config, of)
    params = {
        "student": models["student"][1],
        "fit": {"kernel": GOLDEN["student/fit_dense.weight"].T, "bias": GOLDEN["student/fit_dense.bias"]},
        "domain": _domain_weights("student"),
    }
    frozen = {"teacher": models["teacher"][1], "teacher_domain": _domain_weights("teacher")}
    return objective, params, frozen


def _with_relu(batch, models):
    """Weights that give our lambda the released one: its teacher has a relu before the classifier."""
    return {**batch, "example_weights": GOLDEN["stage1_lambda"]}


def test_stage_a_is_the_released_one_with_lambda_on_the_domain_term_too(models, batch):
    objective, params, frozen = _stage_a(models, batch, uses_difficulty=False)
    given = _with_relu(batch, models)

    def total(params):
        value, (_, metrics) = objective.loss(params, frozen, {}, given, Step())
        return value, metrics

    value, metrics = jax.jit(total)(params)
    _close(value, GOLDEN["stage1_mean_with_per_example_domain"])
    for name, theirs in (("attention", "att"), ("hidden", "hidden"), ("domain", "domain")):
        _close(metrics[f"{name}_loss"][0], GOLDEN[f"stage1_{theirs}"].sum())


def test_gradients_of_stage_a_where_the_domain_term_is_the_released_mean(models, batch):
    """L = mean lambda (attention + hidden) + g2 mean(lambda) mean(domain), as the released code sums it."""
    inner, params, frozen = _stage_a(models, batch, uses_difficulty=False, domain_weight=0.0)
    outer, _, _ = _stage_a(
        models, batch, is_weighted=False, uses_difficulty=False, attention_weight=0.0, hidden_weight=0.0
    )
    given = _with_relu(batch, models)

    def released(params):
        first = inner.loss(params, frozen, {}, given, Step())[0]
        return first + GOLDEN["stage1_lambda"].mean() * outer.loss(params, frozen, {}, given, Step())[0]

    value, gradient = jax.jit(jax.value_and_grad(released))(params)
    _close(value, GOLDEN["stage1_loss"])
    _close(gradient["fit"]["kernel"].T, GOLDEN["stage1_grad/fit_dense.weight"])
    _close(gradient["domain"]["kernel"].T, GOLDEN["stage1_grad/corrupt_dense.weight"])
    _close(gradient["domain"]["embedding"], GOLDEN["stage1_grad/domain_embedding.weight"])
    layer = gradient["student"]["encoder"]["layer_0"]["mlp_out"]["kernel"]
    _close(layer.T, GOLDEN["stage1_grad/bert.encoder.layer.0.output.dense.weight"])


def test_kept_rows_serve_batches_of_any_length_and_means_over_padding_are_not_kept(models, batch):
    tokens = ("input_ids", "attention_mask", "token_type_ids")
    wide = {name: np.pad(x, ((0, 0), (0, 2))) if name in tokens else x for name, x in batch.items()}
    rows = TrainRows(batch["labels"], batch["labels"] >= 0, np.arange(4), False, batch)
    of = {"head": Classification(2), "student": models["student"][0], "teacher": models["teacher"][0], "rows": rows}
    objective = meta_distill.make(meta_distill.default_config(), Setting(**of, longest=14))
    _, params, frozen = _stage_a(models, batch)
    live = tiny.loss(objective, (params, frozen, {}), batch)[0]
    for made_on in (batch, wide):
        kept = objective.teacher_view.rows(frozen["teacher"], made_on)
        assert kept["teacher_scores"].shape == (4, 2, 4, 14, 14) and kept["teacher_states"].shape == (4, 3, 14, 16)
        for given in (batch, wide):
            value = tiny.loss(objective, (params, {**frozen, "teacher": None}, {}), {**given, **kept})[0]
            np.testing.assert_allclose(value, live, rtol=1e-6)
    assert _stage_a(models, batch)[0].teacher_view is None


def test_lambda_by_hand():
    """lin(shape, a, b): element k = a sin(0.37 k + b), k = 1 .. 6, row-major."""
    logits = 2.0 * np.sin(0.37 * np.arange(1, 7) + 1.5).reshape(3, 2)
    true = jax.nn.softmax(logits)[np.arange(3), [0, 1, 1]]
    half = losses.difficulty_weight(jnp.zeros(3), true)
    np.testing.assert_allclose(half, [0.4570087, 0.3907610, 0.3916399], rtol=1e-5)
    sure = losses.difficulty_weight(jnp.zeros(2), jnp.array([1.0, 0.0]))
    np.testing.assert_allclose(sure, [0.5, 1 / (np.e + 1)], rtol=1e-6)
    np.testing.assert_allclose(
        GOLDEN["stage1_difficulty"] * (1 + GOLDEN["sample_weights"]), GOLDEN["stage1_lambda"], rtol=1e-5
    )


@pytest.mark.parametrize("temperature", [1, 2])
def test_stage_b_is_soft_cross_entropy_but_for_the_teachers_entropy(models, batch, temperature):
    teacher, student = GOLDEN["teacher_logits"], GOLDEN["student_logits"]
    soft = jax.nn.softmax(teacher / temperature)
    entropy = -(soft * jnp.log(soft)).sum(-1)
    values = soft_target_loss(student, teacher, temperature) / temperature**2 + entropy
    _close(values.mean(), GOLDEN[f"stage2_T{temperature}_example_mean"])
    _close(values.mean() / 2, GOLDEN[f"stage2_T{temperature}_element_mean"])


def test_prototype_weights_by_hand_and_by_another_road():
    rng = np.random.default_rng(0)
    vectors, domains = rng.normal(size=(12, 5)), np.arange(12) % 3
    cosine = lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b)  # noqa: E731
    means = [np.mean([v for v, d in zip(vectors, domains, strict=True) if d == k], axis=0) for k in range(3)]
    expected = [
        (cosine(v, means[d]) + cosine(v, (sum(means) - means[d]) / 2)) / 2
        for v, d in zip(vectors, domains, strict=True)
    ]
    np.testing.assert_allclose(losses.prototype_weights(vectors, domains), expected, rtol=1e-12)
    # One class only: prototypes by class are those by domain, and the mean of cosines stands for the cosine of a mean.
    by_class = losses.prototype_weights(vectors, domains, np.zeros(12, int), by="class")
    others = [np.mean([cosine(v, means[k]) for k in range(3) if k != d]) for v, d in zip(vectors, domains, strict=True)]
    own = [cosine(v, means[d]) for v, d in zip(vectors, domains, strict=True)]
    np.testing.assert_allclose(by_class, (np.array(own) + others) / 2, rtol=1e-12)


def test_what_centring_does():
    """Vectors that share a large part are all alike until it is taken off; with domains alone nothing is left then."""
    rng = np.random.default_rng(0)
    vectors, domains, classes = 50.0 + rng.normal(size=(12, 5)), np.arange(12) % 3, np.arange(12) // 6
    assert losses.prototype_weights(vectors, domains, classes, by="class").std() < 0.01
    assert losses.prototype_weights(vectors, domains, classes, by="class", centred=True).std() > 0.1
    # The mean of the other domains is the own one's with the other sign, where domains are of one size.
    np.testing.assert_allclose(losses.prototype_weights(vectors - vectors.mean(0), domains), 0, atol=1e-9)
    with pytest.raises(ValueError, match="by='class'"):
        losses.prototype_weights(vectors, domains, classes, centred=True)


def test_an_equal_student_has_no_distance():
    of = tiny.setting()
    of = dataclasses.replace(of, student=of.teacher)
    config = meta_distill.default_config()
    objective = meta_distill.make(config, of)
    given = tiny.batch(of)
    params, frozen, _ = tiny.start(objective, given)
    table = params["domain"]["embedding"]
    params = {**params, "student": frozen["teacher"], "domain": {**params["domain"], "embedding": table}}
    frozen = {**frozen, "teacher_domain": params["domain"]}
    assert float(tiny.loss(objective, (params, frozen, {}), given)[0]) < 1e-10


@pytest.mark.parametrize("how", ["wrong", "permuted"])
def test_corrupted_domains(how):
    domains = jnp.arange(4000) % 4
    drawn = meta_teacher.corrupted(domains, jnp.ones(4000, bool), 4, how, jax.random.key(3))
    shares = np.bincount((drawn - domains) % 4, minlength=4) / 4000
    expected = [0, 1 / 3, 1 / 3, 1 / 3] if how == "wrong" else [1 / 4] * 4
    np.testing.assert_allclose(shares, expected, atol=0.03)


def test_a_class_that_a_domain_lacks_is_weighed_by_the_others():
    vectors = np.eye(3)[[0, 0, 1, 1, 2]] + 1.0
    domains, classes = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 0])
    weights = losses.prototype_weights(np.ones_like(vectors), domains, classes, by="class")
    np.testing.assert_allclose(weights, 1.0)


def test_a_regression_is_refused():
    with pytest.raises(UserError, match="the labels are a regression's"):
        meta_distill.make(meta_distill.default_config(), tiny.setting(is_regression=True))


def test_domains_are_permuted_among_the_real_rows_of_a_batch():
    domains, is_real = jnp.array([0, 1, 0, 2, 2, 0, 0]), jnp.array([0, 1, 0, 1, 1, 0, 0], bool)
    drawn = {
        tuple(meta_teacher.corrupted(domains, is_real, 3, "permuted", jax.random.key(i))[is_real].tolist())
        for i in range(30)
    }
    assert drawn == {(1, 2, 2), (2, 1, 2), (2, 2, 1)}


@pytest.mark.parametrize("progress", [0.0, 0.1, 0.5, 1.0])
def test_a_reversed_gradient_grows_as_in_dann(progress):
    x = jnp.linspace(-1.0, 2.0, 6)
    value, gradient = jax.value_and_grad(lambda x: jnp.sum(meta_teacher.reversed_gradient(x, progress) ** 3))(x)
    assert value == pytest.approx(float(jnp.sum(x**3)), rel=1e-6)
    strength = 2 / (1 + np.exp(-10 * progress)) - 1  # of the paper
    np.testing.assert_allclose(gradient, -strength * 3 * x**2, atol=1e-5)


def test_reversal_turns_the_models_gradient_and_not_that_of_the_classifier_of_domains():
    of = tiny.setting()
    config = meta_teacher.default_config()
    config.corruption = "reversal"
    objective, given = meta_teacher.make(config, of), tiny.batch(of)
    params, frozen, state = tiny.start(objective, given)

    @jax.jit
    def gradients(progress):
        return jax.grad(lambda params: objective.loss(params, frozen, state, given, Step(progress=progress))[0])(params)

    first, half, last = gradients(0.0), gradients(0.1), gradients(1.0)
    for own in (half, last):  # the classifier learns alike at any time
        jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-7), own["domain"], first["domain"])
    moved = [ravel_pytree(jax.tree.map(jnp.subtract, g["student"], first["student"]))[0] for g in (half, last)]
    assert np.abs(moved[1]).max() > 1e-6
    np.testing.assert_allclose(moved[0], moved[1] * np.tanh(0.5) / np.tanh(5.0), atol=1e-6)


def test_what_cannot_be_is_refused():
    of = tiny.setting()
    bare = dataclasses.replace(of, rows=of.rows._replace(columns={}))
    with pytest.raises(UserError, match=r"set data\.columns='domain_ids=COLUMN'"):
        meta_teacher.make(meta_teacher.default_config(), bare)
    negative = of.rows._replace(columns={**of.rows.columns, "example_weights": np.array([-1.0])})
    with pytest.raises(UserError, match="must be >= 0"):
        meta_teacher.make(meta_teacher.default_config(), dataclasses.replace(of, rows=negative))
    other = dataclasses.replace(of, student=build_model(tiny.sizes(1, 24), "classification", 3))
    assert meta_distill.make(meta_distill.default_config(), other)
    deep = dataclasses.replace(of, student=build_model(tiny.sizes(3), "classification", 3))
    with pytest.raises(UserError, match="no multiple of 3"):
        meta_distill.make(meta_distill.default_config(), deep)
