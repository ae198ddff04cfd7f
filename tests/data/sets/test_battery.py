"""Every data set keeps the contract, by being a file; a new one needs that file alone."""

import sys

import numpy as np
import pytest

import codir_jax.data.sets
from codir_jax.data import dataset, pipeline, settings
from codir_jax.data.sets import contract, demo, glue, sentence_pairs, text_classification
from codir_jax.data.tokenizer_training import train_wordpiece
from codir_jax.processes.user_error import UserError
from tests.data.sets import test_glue

WEATHER = '''"""A set of its own."""
from codir_jax.data.splits import RawSplit
from codir_jax.data.sets.contract import RawData
from codir_jax.processes.fields import field

FIELDS = {"weather_days": field(6, "days that are told", at_least=1)}

def check(options):
    if options.weather_days < 2:
        raise ValueError("too few days")

def read(options):
    days = options.weather_days
    train = RawSplit([f"day {i} was fine" for i in range(days)], None, [i % 2 for i in range(days)],
                     columns={"weight": [i / 4 for i in range(days)], "place": ["sea", "hill"] * (days // 2)})
    return RawData({"train": train, "dev": train.take([1, 0])}, ("rain", "sun"), False, ("accuracy",))
'''


@pytest.fixture
def add(tmp_path, monkeypatch):
    """add(name, code) puts the file of a data set into a folder beside the package's own."""
    monkeypatch.setattr(codir_jax.data.sets, "__path__", [*codir_jax.data.sets.__path__, str(tmp_path)])

    def write(name, code):
        (tmp_path / f"{name}.py").write_text(code)

    yield write
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(f"codir_jax.data.sets.{path.stem}", None)
        vars(codir_jax.data.sets).pop(path.stem, None)


def options_of(name, tmp_path):
    """A config that reads the set without a network."""
    options = settings.default_config()
    options.name = name
    options.update({"demo_num_train": 40, "demo_num_dev": 20, "max_length": 24, "batch_size": 2})
    if contract.find(name) is glue:
        test_glue.write(tmp_path / "glue", name)
        options.update({"glue_dir": str(tmp_path / "glue"), "tfds_data_dir": str(tmp_path / "cache")})
    options.update({"demo_num_triplets": 20, "demo_num_scored": 10})
    if contract.find(name) is sentence_pairs:
        path = tmp_path / "pairs.tsv"
        path.write_text("sentence1\tsentence2\tlabel\nthe cat\ta cat\tentailment\na dog\tthe cat\tcontradiction\n")
        options.train_path = str(path)
    if contract.find(name) is text_classification:
        path = tmp_path / "own.tsv"
        path.write_text("sentence\tlabel\tplace\nthe cat\tgood\tsea\na dog\tbad\thill\n")
        options.update({"train_path": str(path), "dev_path": str(path), "columns": "place"})
    return options


@pytest.mark.parametrize("name", contract.sets())
def test_every_set_is_read_checked_and_tokenised_the_same_way(name, tmp_path):
    options = options_of(name, tmp_path)
    settings.check(options)
    raw = contract.find(name).read(options)
    assert isinstance(raw, contract.RawData) and raw.metrics and raw.splits
    assert raw.is_regression == (not raw.label_names) and "unlabelled" not in raw.splits
    for rows in raw.splits.values():
        for label in rows.labels or ():
            assert raw.is_regression or label is None or label in range(len(raw.label_names))
    tokenizer = contract.fresh_tokenizer(options) or train_wordpiece(["a b fine bad the cat dog 0 1 2"], 60)
    data = dataset.load(options, tokenizer, seed=0)
    assert data.info.name == name and data.info.splits == tuple(raw.splits)
    assert {split: len(rows) for split, rows in raw.splits.items()} == {s: len(e) for s, e in data.splits.items()}
    assert data.fingerprint == dataset.load(options, tokenizer, seed=1).fingerprint  # all rows: nothing is drawn


def test_the_names_are_those_of_the_files_and_of_glues_tasks():
    own = {"demo", "demo_domains", "text_classification", "demo_pairs", "sentence_pairs"}
    assert set(contract.sets()) == own | set(glue.NAMES)
    assert (*glue.TRAINABLE_TASKS, "ax") == glue.NAMES
    with pytest.raises(UserError, match=r"data\.name='colla'; known: .*demo.*cola.*text_classification"):
        contract.find("colla")


def test_a_set_may_have_another_name_in_the_configs():
    assert contract.config_argument("text_classification") == "own"
    assert contract.config_argument("rte") == "rte"


def test_a_set_of_another_task_is_refused_with_those_that_fit():
    for name in contract.sets():
        serves = "sentence_embedding" if name in ("demo_pairs", "sentence_pairs") else "classification"
        contract.require_task(name, serves)
    with pytest.raises(UserError, match=r"'cola' is for the task 'classification'; .* use demo_pairs, sentence_pairs"):
        contract.require_task("cola", "sentence_embedding")


def test_the_section_has_the_fields_of_all_sets():
    options = settings.default_config()
    for module in (demo, glue, text_classification):
        for name, field in module.FIELDS.items():
            assert options[name] == field.default


def test_a_set_that_is_one_new_file_goes_from_config_to_batches(add):
    add("weather", WEATHER)
    options = settings.default_config()
    options.update({"name": "weather", "weather_days": 8, "batch_size": 4, "num_train_examples": 6})
    settings.check(options)
    data = dataset.load(options, train_wordpiece(["day was fine 0 1 2 3 4 5 6 7"], 60), seed=0)
    assert data.info.label_names == ("rain", "sun") and data.info.column_names == {"place": ("hill", "sea")}
    (one, two) = pipeline.train_batches(
        data.splits["train"], batch_size=4, length_buckets=(12,), pad_token_id=0, seed=0, window=1, start_step=0,
        num_steps=2,
    )  # fmt: skip
    ids = np.concatenate([one["example_ids"], two["example_ids"]])
    places, weights = (np.concatenate([one[name], two[name]]) for name in ("place", "weight"))
    assert places.dtype == np.int32 and weights.dtype == np.float32
    for row, place, weight in zip(ids, places, weights, strict=True):
        is_real = row < 6
        assert place == (data.splits["train"].columns["place"][row] if is_real else 0)
        assert weight == (data.splits["train"].columns["weight"][row] if is_real else 0)
    options.weather_days = 1
    with pytest.raises(ValueError, match="too few days"):
        settings.check(options)
    assert contract.fresh_tokenizer(options) is None


def test_sets_that_share_a_name_or_a_field_are_a_slip_that_names_both(add):
    add("snow", WEATHER + '\nNAMES = ("demo",)\n')
    with pytest.raises(ValueError, match=r"two data sets are called 'demo': .*demo\.py and .*snow\.py"):
        contract.sets()
    add("weather", WEATHER)
    with pytest.raises(ValueError, match=r"two data sets define data\.weather_days: .*snow\.py and .*weather\.py"):
        contract.fields()


def test_a_field_that_every_set_has_cannot_be_a_sets_own(add):
    add("weather", WEATHER.replace("weather_days", "batch_size"))
    with pytest.raises(ValueError, match="define fields that every set has: batch_size"):
        settings.default_config()
