"""Rules by parameter path: how they are read, that they cover every parameter once, and what decays by default."""

import json
import re

import jax
import jax.numpy as jnp
import pytest

from codir_jax import config as config_lib
from codir_jax.objectives import codir, masked_lm
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import rules as sharding_rules
from codir_jax.stage import config as stage_config
from codir_jax.training import parameter_rules
from codir_jax.training.parameter_rules import Rule
from tests.objectives import tiny

PARAMS = {
    "projection": {"bias": jax.ShapeDtypeStruct((1, 4), jnp.float32)},
    "student": {
        "encoder": {"kernel": jax.ShapeDtypeStruct((4, 4), jnp.float32)},
        "norm": {"scale": jax.ShapeDtypeStruct((4,), jnp.float32)},
    },
}


def test_texts_are_read_in_order():
    texts = ["a/.*: frozen", "b(?:c|d): rate=2 decay=0.01", "e:decay=0", " f : rate=1e-1 "]
    assert parameter_rules.parse(texts) == (
        ("a/.*", None),
        ("b(?:c|d)", Rule(2.0, 0.01)),
        ("e", Rule(1.0, 0.0)),
        ("f", Rule(0.1, None)),
    )


def test_without_texts_all_parameters_have_the_default_rule():
    assert parameter_rules.parse(()) == ((".*", Rule(1.0, None)),)
    parameter_rules.check_coverage(parameter_rules.DEFAULT, PARAMS)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("a: frozen", "must be a list"),
        (["student/.*"], "expected 'PATTERN: rule'.*got 'student/.*'"),
        ([": frozen"], "expected 'PATTERN: rule'"),
        (["a:"], "expected 'PATTERN: rule'"),
        ([3], "expected 'PATTERN: rule'.*got 3"),
        (["a(: frozen"], r"'a\(' is not a regular expression"),
        (["a: froze"], "'froze' in 'a: froze'; a rule is 'frozen', or rate=NUMBER and decay=NUMBER"),
        (["a: frozen rate=2"], "'frozen' in 'a: frozen rate=2'"),
        (["a: rate=1 rate=2"], "'rate=2' in .*at most once"),
        (["a: rate=fast"], "rate in .* expects a number, got 'fast'"),
        (["a: rate=0"], "rate=0.0 of 'a' must be > 0 and finite; 'a: frozen' trains nothing"),
        (["a: rate=inf"], "rate=inf of 'a'"),
        (["a: decay=-1"], "decay=-1.0 of 'a' must be >= 0"),
        (["a: decay=nan"], "decay=nan of 'a'"),
    ],
)
def test_a_text_that_is_no_rule_is_refused(texts, message):
    with pytest.raises(UserError, match=message):
        parameter_rules.parse(texts)


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (
            ["projection/bias", "student/norm/.*"],
            "no pattern matches the parameter 'student/encoder/kernel'; the patterns are 'projection/bias', "
            "'student/norm/.*'. Every parameter needs exactly one",
        ),
        (["projection/.*"], "no pattern matches the parameter 'student/encoder/kernel' (and 1 other parameters)"),
        ([".*", "student/norm/.*"], "2 patterns match the parameter 'student/norm/scale': '.*' and 'student/norm/.*'"),
        (
            [".*", "student/encoder/kernal"],
            "'student/encoder/kernal' matches no parameter; a pattern must match a whole path, and the nearest path is "
            "'student/encoder/kernel'",
        ),
        (["projection", "student/.*"], "'projection' matches no parameter; a pattern must match a whole path"),
    ],
)
def test_every_parameter_is_covered_once_and_every_pattern_covers_one(patterns, message):
    with pytest.raises(UserError, match=re.escape(message)):
        parameter_rules.check_coverage([(pattern, Rule()) for pattern in patterns], PARAMS)


def test_the_order_of_the_pairs_does_not_decide():
    pairs = [("student/.*", None), ("(?!student/).*", Rule(2.0))]
    for ordered in (pairs, pairs[::-1]):
        parameter_rules.check_coverage(ordered, PARAMS)
        assert parameter_rules.trained(ordered, PARAMS) == {
            "projection": {"bias": True},
            "student": {"encoder": {"kernel": False}, "norm": {"scale": False}},
        }


def test_a_run_that_trains_nothing_is_refused():
    with pytest.raises(UserError, match="every parameter is frozen"):
        parameter_rules.check_coverage([(".*", None)], PARAMS)


@pytest.mark.parametrize(
    ("name", "ndim", "decays"),
    [
        ("kernel", 2, True),
        ("embedding", 2, True),
        ("kernel", 3, True),
        ("factor", 4, True),
        ("bias", 1, False),
        ("bias", 2, False),  # of several projections
        ("decoder_bias", 1, False),
        ("scale", 1, False),
        ("scale", 2, False),
        ("rescale", 2, True),
        ("temperature", 0, False),
    ],
)
def test_decay_goes_by_name(name, ndim, decays):
    options = {"default": 0.1, "decays_bias_and_norm": False}
    path = f"student/bias/{name}"
    assert parameter_rules.decay_of(Rule(), path, ndim, **options) == (0.1 if decays else 0.0)
    assert parameter_rules.decay_of(Rule(decay=0.3), path, ndim, **options) == 0.3
    assert parameter_rules.decay_of(Rule(), path, ndim, **{**options, "decays_bias_and_norm": True}) == 0.1


@pytest.mark.parametrize(("method", "setting"), [(codir, tiny.setting), (masked_lm, tiny.pretraining_setting)])
def test_of_the_real_parameters_kernels_and_embeddings_decay(method, setting):
    objective = method.make(method.default_config(), setting())
    params, _, _ = jax.eval_shape(objective.init, jax.random.key(0), tiny.batch(setting()))
    decays = parameter_rules.map_rules(
        parameter_rules.DEFAULT,
        lambda rule, path, leaf: parameter_rules.decay_of(
            rule, path, leaf.ndim, default=0.1, decays_bias_and_norm=False
        ),
        sharding_rules.unbox(params),
    )
    for keys, decay in jax.tree_util.tree_leaves_with_path(decays):
        path = parameter_rules.path_of(keys)
        assert (decay > 0) == path.endswith(("/kernel", "/embedding")), path


def test_rules_survive_the_saved_config_and_the_command_line(tmp_path):
    text = '("student/encoder/.*: frozen", "(?!student/encoder/).*: rate=2")'
    config = config_lib.load("configs/codir/finetune_teacher.py:tiny", [("optimizer.rules", text)])
    stage_config.check(config)
    (tmp_path / "config.json").write_text(config_lib.to_json(config))
    again = config_lib.load(str(tmp_path / "config.json"))
    stage_config.check(again)
    assert json.loads(config_lib.to_json(again)) == json.loads(config_lib.to_json(config))
    pairs = parameter_rules.parse(again.optimizer.rules)
    assert pairs == (("student/encoder/.*", None), ("(?!student/encoder/).*", Rule(2.0, None)))


def test_a_bad_rule_is_refused_by_the_check_of_the_config():
    config = config_lib.load("configs/codir/finetune_teacher.py:tiny", [("optimizer.rules", "('student/.*',)")])
    with pytest.raises(UserError, match="expected 'PATTERN: rule'"):
        stage_config.check(config)
