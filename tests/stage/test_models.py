"""Student, teacher and tokenizer belong together: what is refused before anything is trained."""

import json

import jax
import jax.numpy as jnp
import optax
import pytest

from codir_jax import config as config_lib
from codir_jax.data import tokenizer as tokenizer_lib
from codir_jax.models import sizes
from codir_jax.objectives.contract import Objective
from codir_jax.objectives.heads.classification import Classification
from codir_jax.processes.user_error import UserError
from codir_jax.stage import models, run
from codir_jax.stage.assembled import read_parts
from codir_jax.stage.initial_state import InitialState

SMALL = [("data.demo_num_train", "64"), ("data.demo_num_dev", "16"), ("train.total_steps", "1")]
TEACHER = "configs/codir/finetune_teacher.py:tiny"
STUDENT = "configs/codir/finetune_distill.py:tiny"


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    run.run(config_lib.load(TEACHER, SMALL), folder)
    return folder


@pytest.fixture(scope="module")
def another_order(teacher, tmp_path_factory):
    """A tokenizer of as many words as the teacher's, of which two have changed places."""
    folder = tmp_path_factory.mktemp("other")
    tokenizer_lib.save_tokenizer(tokenizer_lib.load_tokenizer(teacher / "best"), folder)
    whole = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = whole["model"]["vocab"]
    first, second = sorted(vocabulary, key=vocabulary.get)[10:12]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (folder / "tokenizer.json").write_text(json.dumps(whole), encoding="utf-8")
    return folder


def test_a_classifier_is_not_distilled_with_the_word_numbers_of_another_tokenizer(teacher, another_order, tmp_path):
    config = config_lib.load(STUDENT, [*SMALL, ("teacher.path", str(teacher)), ("tokenizer_path", str(another_order))])
    with pytest.raises(UserError, match=r"the tokenizer is not the one of .*: '.+' is 1[01] here and 1[01] there"):
        run.run(config, tmp_path)
    assert not (tmp_path / "results.json").exists()


def test_a_pretrained_student_of_another_vocabulary_than_its_teacher_is_refused(teacher, another_order, tmp_path):
    """Equal sizes and equal weights; only the word lists differ."""
    student = tmp_path / "student"
    student.mkdir()
    for file in (teacher / "best").iterdir():
        (student / file.name).write_bytes(file.read_bytes())
    (student / "tokenizer.json").write_bytes((another_order / "tokenizer.json").read_bytes())
    own = [("student.init", "pretrained"), ("student.path", str(student)), ("teacher.path", str(teacher))]
    with pytest.raises(UserError, match="the tokenizer is not the one of"):
        read_parts(config_lib.load(STUDENT, [*SMALL, *own]))


def test_initialisation_draws_what_no_step_draws():
    """Split keys equal those that the first steps fold in (fault of old): so the seed's key gets a constant first."""
    seen = []

    def init(rng, batch):
        seen.append(rng)
        return {"w": jnp.zeros(2)}, {}, {}

    start = InitialState(
        objective=Objective(init, None), tx=optax.sgd(1.0), example={}, mesh=None, rules=None, num_steps=1
    )
    start._init(0)
    of_init = [*jax.random.key_data(jax.random.split(seen[0], 64)).tolist(), jax.random.key_data(seen[0]).tolist()]
    of_steps = [jax.random.key_data(jax.random.fold_in(jax.random.key(0), step)).tolist() for step in range(64)]
    assert not [key for key in of_init if key in of_steps]
    # Without the constant they are the same.
    assert jax.random.key_data(jax.random.split(jax.random.key(0), 4)).tolist() == of_steps[:4]


@pytest.mark.parametrize("name", ["tiny", "distilbert-base", "modernbert-base"])
def test_one_field_sets_every_dropout_rate(name):
    config = config_lib.load("configs/codir/finetune_teacher.py:tiny", [("student.dropout", "0.25")])
    config.student.init = "pretrained"
    student, _ = models.shapes_only(config, Classification(2), None, None, start=sizes.named(name))
    rates = {field: value for field, value in vars(student.config).items() if field.endswith("_dropout")}
    assert set(rates) == models.DROPOUT_RATES and set(rates.values()) == {0.25}


def test_widths_of_a_student_that_starts_from_its_teacher_are_its_own():
    """Heads keep their size; what cannot be made narrower says so."""
    changes = [("student.num_layers", "1"), ("student.hidden_size", "16"), ("student.intermediate_size", "24")]
    config = config_lib.load(STUDENT, [*SMALL, *changes])
    student, _ = models.shapes_only(config, Classification(2), sizes.named("tiny"), None)
    made = student.config
    assert (made.num_layers, made.hidden_size, made.num_heads, made.intermediate_size) == (1, 16, 1, 24)
    with pytest.raises(UserError, match=r"student\.hidden_size: long short-term memory .* are not made narrower"):
        models.make_student(config, None, models.Model(None, None, sizes.named("lstm-small"), None), None)
