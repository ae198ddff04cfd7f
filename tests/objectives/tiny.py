"""A tiny student, teacher and batch of each head, that objective and training tests share."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from codir_jax.models.heads import build_model
from codir_jax.models.transformer import TransformerConfig
from codir_jax.negatives import row_tables
from codir_jax.objectives.contract import Objective, Setting, Step, TrainRows
from codir_jax.objectives.heads.classification import Classification
from codir_jax.objectives.heads.embedding import Embedding
from codir_jax.objectives.heads.masked_lm import MaskedLM
from codir_jax.sharding import mesh as meshes
from codir_jax.sharding import rules
from codir_jax.stage.initial_state import InitialState
from codir_jax.training import optimizer

NUM_TRAIN = 24


def sizes(num_layers, hidden_size=16, dropout=0.1):
    """A BERT of the given depth and width."""
    return TransformerConfig(
        family="bert",
        vocab_size=40,
        hidden_size=hidden_size,
        num_layers=num_layers,
        num_heads=2,
        intermediate_size=2 * hidden_size,
        max_positions=16,
        type_vocab_size=2,
        layer_norm_eps=1e-12,
        pad_token_id=0,
        position_offset=0,
        hidden_dropout=dropout,
        attention_dropout=dropout,
        initializer_range=0.5,
    )


def setting(*, is_regression=False, is_multi_label=False, teacher_width=16, num_unlabelled=4, num_microbatches=1):
    """One-layer student, two-layer teacher, 24 train rows of 3 classes (or a regression), the last ones unlabelled.

    Of any number of classes a text, row i has those of the bits of i % 7: none, one or two of the three, but never all.
    """
    rng = np.random.default_rng(0)
    num_classes = 1 if is_regression else 3
    labels = np.arange(NUM_TRAIN, dtype=np.int32) % 3
    if is_regression:
        labels = rng.normal(size=NUM_TRAIN).astype(np.float32)
    if is_multi_label:
        labels = (np.arange(NUM_TRAIN)[:, None] % 7 >> np.arange(3) & 1).astype(np.float32)
    return Setting(
        head=Classification(num_classes, is_regression, is_multi_label=is_multi_label),
        student=build_model(sizes(1), "classification", num_classes),
        teacher=build_model(sizes(2, teacher_width), "classification", num_classes),
        rows=TrainRows(
            labels=labels,
            is_labelled=np.arange(NUM_TRAIN) < NUM_TRAIN - num_unlabelled,
            text_ids=np.arange(NUM_TRAIN, dtype=np.int32),
            is_regression=is_regression,
            is_multi_label=is_multi_label,
            columns={
                "domain_ids": (np.arange(NUM_TRAIN) % 4).astype(np.int32),
                "example_weights": np.linspace(0.2, 1.0, NUM_TRAIN).astype(np.float32),
            },
        ),
        num_microbatches=num_microbatches,
    )


def pretraining_setting(*, teacher_width=16, num_microbatches=1):
    """The same models as masked LMs; a corpus has no labels."""
    return Setting(
        head=MaskedLM(),
        student=build_model(sizes(1), "masked_lm"),
        teacher=build_model(sizes(2, teacher_width), "masked_lm"),
        num_microbatches=num_microbatches,
    )


def sentences_setting(*, teacher_width=16, num_microbatches=1, texts_per_row=2):
    """The same models as sentence encoders: 24 train rows of pairs, every third one contradicted.

    Rows 3 and 6 share their first text, of rows 4 and 7 the second text of one is the first of the other.
    """
    text_ids = np.arange(NUM_TRAIN * texts_per_row, dtype=np.int32).reshape(NUM_TRAIN, texts_per_row)
    text_ids[6, 0], text_ids[7, 0] = text_ids[3, 0], text_ids[4, -1]
    return Setting(
        head=Embedding(),
        student=build_model(sizes(1), "embedding"),
        teacher=build_model(sizes(2, teacher_width), "embedding"),
        num_microbatches=num_microbatches,
        rows=TrainRows(
            labels=(np.arange(NUM_TRAIN) % 3 > 0).astype(np.int32),
            is_labelled=np.full(NUM_TRAIN, texts_per_row == 2),
            text_ids=text_ids[:, 0] if texts_per_row == 1 else text_ids,
            is_regression=False,
        ),
    )


# Head -> its setting.
SETTINGS = {"classification": setting, "masked_lm": pretraining_setting, "embedding": sentences_setting}


def batch(of, ids=None, length=8, num_padding=0, seed=1):
    """A batch of the setting's rows; the texts of a row are always the same. `num_padding` rows are added.

    At pre-training rows 3 i to 3 i + 2 are of document i, and each has two masked positions and a slot to spare.
    """
    ids = np.arange(8) if ids is None else np.asarray(ids)
    rows = np.concatenate([ids, np.zeros(num_padding, int)])
    real = np.arange(len(rows)) < len(ids)
    # Of a row with several texts apart [rows, texts], else [rows]: the number of each text, and whether there is one.
    numbers, is_text = np.arange(NUM_TRAIN)[rows], real
    if of.rows is not None and of.rows.texts_per_row > 1:
        numbers, is_text = of.rows.text_ids[rows], np.broadcast_to(real[:, None], (len(rows), of.rows.texts_per_row))
    num_texts = NUM_TRAIN * (of.rows.texts_per_row if of.rows is not None else 1)
    texts = np.random.default_rng(seed).integers(5, 40, (num_texts, length))
    lengths = 3 + np.arange(num_texts) % (length - 2)
    mask = (np.arange(length) < lengths[numbers][..., None]) & is_text[..., None]
    whole = {
        "input_ids": np.where(mask, texts[numbers], 0).astype(np.int32),
        "attention_mask": mask.astype(np.int32),
        "token_type_ids": np.zeros_like(mask, np.int32),
        "example_mask": real.astype(np.float32),
        "example_ids": np.where(real, rows, NUM_TRAIN).astype(np.int32),
        "text_ids": np.where(real, rows, -1).astype(np.int32),
    }
    if of.rows is None:
        positions = np.stack([1 + 0 * rows, lengths[rows] - 1, 0 * rows], axis=1)
        used = real[:, None] & np.array([True, True, False])
        labels = np.where(used, np.take_along_axis(texts[rows], positions, 1), 0)
        np.put_along_axis(whole["input_ids"], positions[:, :2], np.where(real[:, None], 4, 0), 1)  # [MASK]
        return {
            **whole,
            "masked_positions": np.where(used, positions, 0).astype(np.int32),
            "masked_labels": labels.astype(np.int32),
            "masked_weights": used.astype(np.float32),
            "document_ids": np.where(real, rows // 3, -1).astype(np.int32),
        }
    labelled = real & of.rows.is_labelled[rows]
    columns = {name: np.where(real, values[rows], 0) for name, values in of.rows.columns.items()}
    return {
        **whole,
        **{name: values.astype(of.rows.columns[name].dtype) for name, values in columns.items()},
        "labels": of.rows.labels[rows] * labelled.reshape(-1, *[1] * (of.rows.labels.ndim - 1)),
        "label_mask": labelled.astype(np.float32),
        "text_ids": np.where(is_text, of.rows.text_ids[rows], -1).astype(np.int32),
    }


def start(objective: Objective, batch):
    """(params, frozen, state) at the start, by one program: op by op they would be hundreds."""
    return jax.jit(lambda rng: rules.unbox(objective.init(rng, batch)))(jax.random.key(0))


def loss(objective: Objective, parts, batch, step: Step = Step()):  # noqa: B008
    """(loss, (state, metrics)) of the objective, by one program."""
    return jax.jit(lambda parts, batch: objective.loss(*parts, batch, step))(parts, batch)


def tables(objective: Objective, view=None):
    """The objective's tables of the train rows, whole: entries of `frozen`."""
    if objective.row_tables is None:
        return {}
    made = objective.row_tables(view or {}, None)
    return {name: jnp.asarray(one.part(0, row_tables.num_rows(one.num_train))) for name, one in made.items()}


@dataclasses.dataclass(frozen=True)
class Placed:
    """A train step on a mesh of `shape`, as a run makes it: step, abstract (state, frozen), where a batch goes."""

    start: InitialState
    step: object
    abstract: tuple
    split: jax.sharding.NamedSharding

    @classmethod
    def make(cls, objective: Objective, shape, example, num_steps=20):
        options = optimizer.default_config()
        # Some gradients are zero except for rounding (a key's bias); Adam would make steps of full size out of them.
        options.update({"learning_rate": 1e-3, "eps": 1e-4})
        tx = optimizer.make_optimizer(options, optimizer.make_schedule(options, num_steps, 2))
        mesh = meshes.make_mesh(dict(zip(rules.MESH_AXES, shape, strict=True)), jax.devices()[: np.prod(shape)])
        start = InitialState(
            objective=objective, tx=tx, example=example, mesh=mesh, rules=rules.RULES, num_steps=num_steps
        )
        abstract = start.abstract()
        return cls(start, start.step(abstract), abstract, rules.batch_sharding(mesh))

    def compile(self, example, abstract=None):
        """The compiled step for batches like `example`, not run."""
        batch = {k: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=self.split) for k, v in example.items()}
        return self.step.lower(*(abstract or self.abstract), batch).compile()
