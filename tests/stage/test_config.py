"""One schema for every field of a stage: overrides, saved configs, config files and Python calls; what binds a run."""

import json
import math
import re
from pathlib import Path

import pytest

from codir_jax import config as config_lib
from codir_jax.jobs.compress import compress
from codir_jax.processes import by_name
from codir_jax.processes.fields import flat
from codir_jax.processes.user_error import UserError
from codir_jax.stage import checks
from codir_jax.stage import config as stage_config
from codir_jax.stage.assembled import Stage
from codir_jax.tasks.contract import task_module
from tests.test_config import shipped

DISTILL = "configs/codir/finetune_distill.py:tiny"
OBJECTIVES = by_name.modules("codir_jax.objectives", ("FIELDS", "make", "HEADS"))
TASKS = by_name.modules("codir_jax.tasks", ("make", "data_fields", "TEACHER"))


def keys_of(tree, prefix=""):
    for name, value in tree.items():
        yield from keys_of(value, f"{prefix}{name}.") if isinstance(value, dict) else [f"{prefix}{name}"]


def save(tmp_path, change=None, spec=DISTILL):
    """A saved config, changed by a function of its dict."""
    config = json.loads(config_lib.to_json(stage_config.load(spec, [("teacher.path", "t")])))
    path = tmp_path / "saved.json"
    path.write_text(json.dumps(change(config) if change else config))
    return str(path)


def with_value(key, value):
    """Sets the dotted key of a dict, or removes it where the value is ...."""

    def change(config):
        *groups, name = key.split(".")
        node = config
        for group in groups:
            node = node[group]
        if value is ...:
            del node[name]
        else:
            node[name] = value
        return config

    return change


def test_every_field_of_every_config_and_default_has_a_schema():
    seen = set()
    for spec in (f"{path}{word}" for path in shipped() for word in ("", ":tiny")):
        config = stage_config.load(spec)
        schema = dict(flat(stage_config.schema_of(config)))
        assert sorted(keys_of(config.to_dict())) == sorted(schema), spec
        seen |= set(schema)
    for name, module in OBJECTIVES.items():
        config = module.default_config()
        assert sorted(keys_of(config.to_dict())) == sorted(key for key, _ in flat(module.FIELDS)), name
        assert config.name == name
    for name in TASKS:
        config = stage_config.default_config(OBJECTIVES["finetune"].default_config(), name)
        assert sorted(keys_of(config.data.to_dict())) == sorted(key for key, _ in flat(task_module(name).data_fields()))
    assert len(seen) > 150


def every_field():
    """(objective, task, key, field): each once."""
    found = {}
    for objective in OBJECTIVES:
        for task in TASKS:
            for key, one in flat(stage_config.fields(objective, task)):
                found.setdefault((key, one), (objective, task))
    return [(objective, task, key, one) for (key, one), (objective, task) in found.items()]


def test_every_number_has_two_limits_and_every_field_a_sentence():
    for *_, key, one in every_field():
        assert len(one.help) > 2, key
        numbers = one.each if type(one.default) is tuple else one
        if type(numbers.default) in (int, float):
            assert numbers.at_least is not None or numbers.above is not None, key
            assert numbers.at_most is not None or numbers.below is not None, key


def test_no_field_takes_nan_infinity_a_huge_number_or_another_type():
    wrong = (math.nan, math.inf, -math.inf, 1e30, -1e30, 10**15, -(10**15), None, {"a": 1}, [None])
    for *_, key, one in every_field():
        for value in (
            *wrong,
            "nonsense" if type(one.default) is not str else 5,
            3 if type(one.default) is bool else True,
        ):
            if not (type(one.default) is bool and value is True):
                assert one.fault(value), f"{key}={value!r}"


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("optimizer.eps", "inf"),
        ("optimizer.eps", "0"),
        ("optimizer.b1", "nan"),
        ("optimizer.learning_rate", "1e30"),
        ("optimizer.warmup_percent", "150"),
        ("student.dropout", "nan"),
        ("student.dropout", "-0.5"),
        ("student.hidden_size", "1000000000000"),
        ("student.init_layers", "1,"),
        ("student.num_layers", "-2"),
        ("objective.contrastive_weight", "-1.5"),
        ("objective.projection_dim", "0"),
        ("objective.negatives.source", "in_batch+in_batch"),
        ("objective.negatives.momentum", "1e30"),
        ("objective.layer_matches", "1:"),
        ("objective.task_schedule", "0%:nan"),
        ("data.num_train_examples", "-5"),
        ("data.max_length", "2"),
        ("train.total_epochs", "inf"),
        ("train.total_steps", "1000000000000"),
        ("train.prng_impl", "xorshift"),
        ("seed", "-5"),
        ("seed", "4294967296"),
        ("mesh.rules.batch", "data+data"),
        ("mesh.data", "-3"),
    ],
)
def test_an_override_that_cannot_be_is_refused_at_once(key, text):
    with pytest.raises(UserError, match=re.escape(key) + "="):
        stage_config.load(DISTILL, [("teacher.path", "t"), (key, text)])


def test_overrides_at_the_limits_are_accepted():
    limits = [("seed", "4294967295"), ("student.dropout", "0"), ("optimizer.b1", "0"), ("mesh.data", "-1")]
    config = stage_config.load(DISTILL, [("teacher.path", "t"), *limits, ("objective.contrastive_weight", "0")])
    stage_config.check(config)
    assert config.seed == 2**32 - 1 and config.objective.contrastive_weight == 0


def test_python_calls_are_checked_alike_and_all_faults_are_told():
    config = stage_config.load(DISTILL, [("teacher.path", "t")])
    with config.ignore_type(), config.unlocked():
        config.optimizer.eps = math.inf
        config.data.batch_size = "64"
        config.teacher.allow_weak = 1
        config.optimizer.learning_rat = 0.1
    with pytest.raises(UserError, match="4 fields cannot be") as told:
        stage_config.check(config)
    for part in ("optimizer.eps=inf", "data.batch_size='64'", "allow_weak=1", "did you mean 'learning_rate'"):
        assert part in str(told.value)


def test_a_job_refuses_a_teachers_override_before_anything_is_made(tmp_path):
    for overrides in ({"overrides": [("optimizer.eps", "inf")]}, {"teacher_overrides": [("optimizer.eps", "inf")]}):
        with pytest.raises(UserError, match=r"optimizer\.eps=inf"):
            compress(demo=True, output=str(tmp_path / "job"), **overrides)


@pytest.mark.parametrize(
    ("layers", "told"), [(-1, "1 or more, or 0"), (True, "1 or more"), (10_001, "num_layers=10001")]
)
def test_a_job_refuses_layers_that_no_student_has(layers, told, tmp_path):
    with pytest.raises(UserError, match=told):
        compress(demo=True, output=str(tmp_path / "job"), layers=layers)


def test_a_job_refuses_layers_where_its_recipe_takes_none(tmp_path):
    with pytest.raises(UserError, match=r"--layers=2: no stage of this recipe takes"):
        compress(text="nothing.txt", output=str(tmp_path / "job"), recipe="language_model", layers=2)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.batch_size", "64"),
        ("data.batch_size", None),
        ("data", []),
        ("mesh", 1),
        ("mesh.rules.batch", ["data"]),
        ("objective.equal_start", 1),
        ("objective.negatives", ...),
        ("data", ...),
        ("objective.standardize_layers", "False"),
        ("objective", "codir"),
        ("optimizer.learning_rate", "0.1"),
        ("optimizer.learning_rate", None),
        ("seed", "0; rm -rf /"),
        ("seed", 1.5),
        ("teacher.path", 5),
        ("teacher.path", ["a"]),
        ("teacher.allow_weak", "False"),
        ("tokenizer_path", 5),
        ("train.log_every_steps", 2.5),
        ("train.num_microbatches", 2.0),
        ("train.total_epochs", None),
        ("optimizer.lr", 0.1),
        ("data.max_length", 1e400),
    ],
)
def test_a_saved_config_with_a_wrong_value_is_refused_with_file_and_key(tmp_path, key, value):
    with pytest.raises(UserError, match=rf"saved\.json: .*{re.escape(key.rpartition('.')[2])}"):
        stage_config.load(save(tmp_path, with_value(key, value)))


def test_a_saved_config_without_the_length_of_the_run_is_refused(tmp_path):
    for change in (with_value("train.total_epochs", ...), with_value("train", {}), with_value("train", ...)):
        with pytest.raises(UserError, match=r"train\.total.*exactly one unit"):
            stage_config.check(stage_config.load(save(tmp_path, change)))


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", "5", "{", '{"a": ' * 100_000, "\xca", "{}", '{"model_type": "bert"}', '{"dev": {"accuracy": 1}}',
     '{"objective": {"name": 5}, "task": {"name": "classification"}}', '{"__class__": 1}', "1" * 5000],
)  # fmt: skip
def test_what_is_no_saved_config_is_refused_with_its_name(tmp_path, text):
    path = tmp_path / "saved.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"saved\.json"):
        stage_config.load(str(path))


def test_a_key_that_python_has_is_no_field(tmp_path):
    with pytest.raises(UserError, match=r"saved\.json: __class__"):
        stage_config.load(save(tmp_path, with_value("__class__", "x")))


def test_an_older_saved_config_gets_the_defaults_and_says_so(tmp_path, capsys):
    def older(config):
        del config["student"]["word_rows"], config["objective"]["equal_start"], config["compression"]
        return config

    path = save(tmp_path, older)
    config = stage_config.load(path, [("student.word_rows", "all")])
    assert config.student.word_rows == "all" and config.objective.equal_start is False
    (line,) = capsys.readouterr().out.splitlines()
    for key in ("student.word_rows='seen'", "objective.equal_start=False", "compression.method=''"):
        assert path in line and key in line
    stage_config.load(save(tmp_path))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def get_config(argument):\n    return {\n", r"broken\.py, line 2: .*SyntaxError"),
        ("import nothing_of_this_name\n", r"broken\.py, line 1: .*ModuleNotFoundError"),
        ("def get_config(argument):\n    return 1 / 0\n", r"broken\.py, line 2: .*ZeroDivisionError"),
        ("def get_config(argument):\n    return {}\n", r"broken\.py: get_config returned dict"),
        ("x = 1\n", r"broken\.py defines no get_config"),
        ("import sys\nsys.exit(0)\n", r"broken\.py, line 2: .*SystemExit"),
        ("def get_config():\n    return 1\n", r"broken\.py: .*TypeError"),
        (
            "from ml_collections import ConfigDict\ndef get_config(argument):\n    return ConfigDict()\n",
            "no config of a stage",
        ),
    ],
)
def test_a_config_file_that_is_wrong_is_told_with_its_line(tmp_path, text, told):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(UserError, match=told):
        stage_config.load(str(path))


def test_two_words_of_one_kind_are_refused():
    with pytest.raises(UserError, match="paper and distill; give one of paper, released"):
        stage_config.load("configs/codir/finetune_distill.py:tiny,paper,distill")


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ([("train.num_microbatches", "128")], r"data\.batch_size=64 is not divisible by train\.num_microbatches=128"),
        ([("train.total_steps", "10"), ("optimizer.warmup_steps", "11")], r"warmup_steps=11 is longer than the run"),
        ([("optimizer.warmup_epochs", "3.5")], r"warmup_epochs=3\.5 is longer than the run"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(overrides, told):
    with pytest.raises(UserError, match=told):
        stage_config.check(stage_config.load(DISTILL, [("teacher.path", "t"), *overrides]))


def test_a_warm_up_that_the_run_does_not_see_the_end_of_is_refused():
    checks.check_warmup(10, 10)
    with pytest.raises(UserError, match="11 steps of warm-up, and the run has 10"):
        checks.check_warmup(11, 10)


FREE = (
    "mesh.",
    "teacher.allow_weak",
    "teacher.cache_dir",
    "train.log_every_steps",
    "train.checkpoint_every",
    "train.keep",
)


def test_what_binds_a_run_is_all_but_places_and_intervals_of_writing():
    config = stage_config.load(DISTILL, [("teacher.path", "t")])
    saved = json.loads(json.dumps(stage_config.binding(config)))
    bound = set(keys_of(saved))
    free = {key for key, _ in flat(stage_config.schema_of(config))} - bound
    assert all(any(key.startswith(part) for key in free) for part in FREE)
    assert {"seed", "optimizer.learning_rate", "teacher.path", "train.eval_every_epochs", "data.batch_size"} <= bound
    again = [
        ("teacher.path", "t"),
        ("train.log_every_steps", "1"),
        ("train.checkpoint_every_steps", "3"),
        ("mesh.data", "1"),
    ]
    other = stage_config.load(DISTILL, [*again, ("teacher.cache_dir", "x"), ("data.cache_dir", "y")])
    assert stage_config.fingerprint(other) == stage_config.fingerprint(config)
    assert checks.check_config(other, {"config": saved}) == ""


def test_a_checkpoint_of_another_config_is_refused_with_the_fields_that_differ():
    config = stage_config.load(DISTILL, [("teacher.path", "t")])
    saved = json.loads(json.dumps(stage_config.binding(config)))
    other = stage_config.load(DISTILL, [("teacher.path", "t"), ("optimizer.learning_rate", "0.1"), ("seed", "3")])
    assert stage_config.fingerprint(other) != stage_config.fingerprint(config)
    with pytest.raises(
        UserError, match=r"another config.*\n  optimizer\.learning_rate: 0\.1 here, .* there\n  seed: 3 here"
    ):
        checks.check_config(other, {"config": saved})
    another = stage_config.load("configs/codir/finetune_distill.py:tiny,distill", [("teacher.path", "t")])
    with pytest.raises(UserError, match=r"objective\.name: 'distill' here, 'codir' there"):
        checks.check_config(another, {"config": saved})
    del saved["student"]["word_rows"]  # a field that came later: it has its default
    assert checks.check_config(config, {"config": saved}) == ""
    assert "earlier version" in checks.check_config(config, {})


def test_a_field_that_came_later_does_not_make_another_config(tmp_path):
    config = stage_config.load(DISTILL, [("teacher.path", "t")])
    saved = json.loads(Path(save(tmp_path, with_value("student.word_rows", ...))).read_text())
    assert stage_config.differing(config, saved) == []
    assert stage_config.differing(config, {"a": 1})


@pytest.mark.parametrize("spelling", ["./runs/teacher", "runs/../runs/teacher/", "{here}/runs/teacher"])
def test_another_spelling_of_a_path_does_not_make_another_config(tmp_path, monkeypatch, spelling):
    monkeypatch.chdir(tmp_path)
    config = stage_config.load(DISTILL, [("teacher.path", spelling.format(here=tmp_path))])
    saved = json.loads(json.dumps(stage_config.load(DISTILL, [("teacher.path", "runs/teacher")]).to_dict()))
    assert stage_config.differing(config, saved) == []
    saved["teacher"]["path"] = "runs/teacher2"
    assert stage_config.differing(config, saved) == [
        f"teacher.path: {config.teacher.path!r} here, 'runs/teacher2' there"
    ]


def test_a_run_of_few_rows_has_its_least_steps_unless_a_length_is_given():
    """The tiny teacher has 512 rows in batches of 64, one epoch."""
    spec = "configs/codir/finetune_teacher.py"
    assert stage_config.load(f"{spec}:own").train.at_least_steps == 600
    assert stage_config.load(f"{spec}:own", [("train.total_epochs", "2")]).train.at_least_steps == 0
    assert stage_config.load(f"{spec}:own").optimizer.of_width == 768
    assert stage_config.load(f"{spec}:own", [("optimizer.learning_rate", "2e-5")]).optimizer.of_width == 0
    both = [("train.total_epochs", "2"), ("train.at_least_steps", "7")]
    assert stage_config.load(f"{spec}:own", both).train.at_least_steps == 7
    small = [("data.batch_size", "64"), ("data.eval_batch_size", "64")]
    lengths = [
        Stage.of(stage_config.load(f"{spec}:tiny", [*small, ("train.at_least_steps", least)])).num_steps
        for least in ("0", "50")
    ]
    assert lengths == [8, 50]
    steps = [("train.total_epochs", "-1"), ("train.total_steps", "3"), ("train.at_least_steps", "50")]
    assert Stage.of(stage_config.load(f"{spec}:tiny", [*small, *steps])).num_steps == 3
