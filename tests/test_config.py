"""Configs: overrides, misspelt keys, durations, saving, and every shipped config."""

import json
import re
from pathlib import Path

import pytest

from codir_jax import config as config_lib
from codir_jax.processes.user_error import UserError
from codir_jax.stage import config as stage_config

TEACHER, DISTILL = "configs/codir/finetune_teacher.py", "configs/codir/finetune_distill.py"


def test_an_override_keeps_the_type_of_the_default():
    config = config_lib.load(
        f"{DISTILL}:sst2",
        [
            ("optimizer.learning_rate", "3e-5"),
            ("data.batch_size", "64"),
            ("data.glue_dir", "glue"),
            ("teacher.allow_weak", "true"),
            ("objective.negatives.source", "queue"),
        ],
    )
    assert config.optimizer.learning_rate == 3e-5
    assert config.data.batch_size == 64
    assert config.data.glue_dir == "glue"
    assert config.teacher.allow_weak is True
    assert config.objective.negatives.source == "queue"


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("optimizer.learning_rat", "optimizer.learning_rate"),
        ("learning_rate", "optimizer.learning_rate"),
        ("objective.negatives.momentun", "objective.negatives.momentum"),
    ],
)
def test_a_misspelt_key_names_the_nearest(key, suggestion):
    with pytest.raises(ValueError, match=re.escape(f"Did you mean {suggestion!r}")):
        config_lib.load(DISTILL, [(key, "1")])


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("data.batch_size", "many", "int"),
        ("optimizer.learning_rate", "fast", "float"),
        ("teacher.allow_weak", "perhaps", "bool"),
        ("optimizer", "adam", "group"),
    ],
)
def test_a_value_of_another_type_is_refused(key, text, expected):
    with pytest.raises(ValueError, match=expected):
        config_lib.load(DISTILL, [(key, text)])


def test_values_of_python_are_taken_as_their_texts_would_be():
    given = {"seed": 3, "optimizer.learning_rate": 1e-4, "teacher.allow_weak": True, "data.max_length": "32"}
    pairs = config_lib.as_texts(given)
    assert pairs == config_lib.as_texts(list(given.items())) and all(type(text) is str for _, text in pairs)
    config = config_lib.load("configs/codir/finetune_distill.py:sst2", pairs)
    assert (config.seed, config.optimizer.learning_rate, config.data.max_length) == (3, 1e-4, 32)
    assert config.teacher.allow_weak is True


@pytest.mark.parametrize("overrides", ["seed=3", [("seed", 3, 4)], [3], {3: "seed"}])
def test_overrides_of_another_shape_are_refused(overrides):
    with pytest.raises(UserError, match="overrides: expected"):
        config_lib.as_texts(overrides)


def test_an_unknown_argument_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"sst3.*known: .*sst2"):
        config_lib.load(f"{DISTILL}:sst3")


def test_a_missing_config_says_what_was_expected():
    with pytest.raises(FileNotFoundError, match=r"configs/README\.md"):
        config_lib.load("configs/nothing.py")


def test_a_saved_config_is_the_same_config(tmp_path):
    config = config_lib.load(f"{DISTILL}:rte,released", [("seed", "7")])
    (tmp_path / "config.json").write_text(config_lib.to_json(config))
    again = config_lib.load(str(tmp_path / "config.json"))
    assert config_lib.differences(config, again) == []
    assert again.seed == 7
    with pytest.raises(ValueError, match="takes no argument"):
        config_lib.load(f"{tmp_path / 'config.json'}:rte")


@pytest.mark.parametrize("name", ["dropout.rate", "__class__"])
def test_a_saved_config_with_a_name_that_no_field_can_have_is_told_with_its_file(tmp_path, name):
    (tmp_path / "config.json").write_text(json.dumps({"student": {name: 0.1}}))
    with pytest.raises(UserError, match=rf"config\.json: .*{re.escape(name)}"):
        config_lib.load(str(tmp_path / "config.json"))


def test_differences_name_the_keys():
    one, two = config_lib.load(DISTILL), config_lib.load(DISTILL, [("seed", "1"), ("data.batch_size", "8")])
    assert [line.split(":")[0] for line in config_lib.differences(one, two)] == ["data.batch_size", "seed"]


def test_setting_one_unit_of_a_duration_clears_the_others():
    config = config_lib.load(DISTILL, [("optimizer.warmup_steps", "10"), ("train.total_steps", "100")])
    steps = lambda section, name: config_lib.duration_steps(section, name, steps_per_epoch=7, num_steps=50)  # noqa: E731
    assert steps(config.optimizer, "warmup") == 10
    assert steps(config.train, "total") == 100
    assert steps(config.train, "eval_every") == 7


def test_durations_in_percent_and_epochs():
    config = config_lib.load(DISTILL, [("optimizer.warmup_percent", "10"), ("train.total_epochs", "2.5")])
    assert config_lib.duration_steps(config.optimizer, "warmup", steps_per_epoch=7, num_steps=50) == 5
    assert config_lib.duration_steps(config.train, "total", steps_per_epoch=7) == 18


@pytest.mark.parametrize(
    ("epochs", "steps_per_epoch", "steps"),
    [(0.07, 100, 7), (1.1, 10, 11), (0.0701, 100, 8), (3.0, 333, 999), (1e-9, 100, 1), (0.0, 100, 0)],
)
def test_rounding_adds_no_step_to_epochs(epochs, steps_per_epoch, steps):
    section = {"total_steps": -1, "total_epochs": epochs}
    assert config_lib.duration_steps(section, "total", steps_per_epoch=steps_per_epoch) == steps


def test_clearing_one_unit_of_a_duration_leaves_the_others():
    config = config_lib.load(DISTILL, [("train.total_steps", "7"), ("train.total_epochs", "-1")])
    assert config_lib.duration_steps(config.train, "total", steps_per_epoch=3) == 7


def test_a_duration_in_two_units_is_refused():
    config = config_lib.load(DISTILL)
    config.train.total_steps = 5
    with pytest.raises(ValueError, match="exactly one unit"):
        config_lib.duration_steps(config.train, "total", steps_per_epoch=7)


def shipped():
    """Every config of configs/, found by looking: a new one joins by existing."""
    return [str(path) for path in sorted(Path("configs").glob("*/*.py")) if path.stem not in ("__init__", "recipe")]


# Of the arguments beside none and `tiny`, which every config has.
WORDS = {"finetune": ("stsb", "own", "demo"), "pretrain": ("roberta_base",)}
METHODS = ("paper", "released", "distill", "best", "finetune")
PRE_TRAINING = ("best", "masked_lm", "distill", "l2", "relations", "tokens")


@pytest.mark.parametrize(
    "spec",
    [
        *(f"{path}:{word}" for path in shipped() for word in ("", "tiny")),
        *(f"{path}:{word}" for path in shipped() for word in WORDS.get(Path(path).stem.partition("_")[0], ())),
        *(f"configs/codir/pretrain_distill.py:tiny,{method}" for method in PRE_TRAINING),
        *(f"{DISTILL}:rte,{method}" for method in METHODS),
    ],
)
def test_every_shipped_config_passes_its_checks(spec):
    config = config_lib.load(spec, [("teacher.path", "t"), ("student.path", "s")])
    if "sources" in config.data:
        config.data.sources = "t"
    stage_config.check(config)


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("data.name", "sts", "known: .*cola"),
        ("student.init", "new", "one of teacher, pretrained, random"),
        ("objective.name", "codirr", "known: codir, distill, finetune"),
        ("optimizer.name", "lamb", "adamw, adam, sgd"),
        ("optimizer.schedule", "step", "linear, cosine"),
        ("optimizer.learning_rate", "0", r"learning_rate=0.0: expected a finite number, above 0"),
        ("data.num_length_buckets", "0", "num_length_buckets=0: expected a whole number, 1 to"),
        ("data.batch_size", "0", "batch_size=0: expected a whole number, 1 to"),
        ("student.dtype", "float16", "float32, bfloat16"),
        ("optimizer.gradient_dtype", "float16", "one of float32, bfloat16"),
        ("optimizer.gradient_dtype", "bfloat16", "set student.dtype=bfloat16"),
        ("teacher.cache", "yes", "one of auto, on, off"),
        ("objective.hidden_unit", "word", "one of text, token"),
        ("objective.hidden_weight", "-1", "0 to 1"),
        ("objective.head_from", "1", "below 1"),
        ("optimizer.points", "1,0", "points like 10%:1"),
        ("teacher.cache_dtype", "float16", "one of float32, bfloat16"),
        ("train.log_every_steps", "0", "log_every_steps"),
        ("teacher.path", "", "teacher.path is empty"),
    ],
)
def test_a_bad_value_is_refused_before_anything_runs(key, text, message):
    config = config_lib.load(DISTILL, [("teacher.path", "t"), (key, text)])
    with pytest.raises(ValueError, match=message):
        stage_config.check(config)


def test_a_fault_of_the_program_keeps_its_traceback_when_a_config_meets_it(tmp_path):
    path = tmp_path / "meets.py"
    path.write_text("from codir_jax.processes import fields\ndef get_config(_):\n    return fields.defaults(5)\n")
    with pytest.raises(AttributeError):
        config_lib.load(str(path))
