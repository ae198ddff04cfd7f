"""From config to tokens: the seed of a draw, unlabelled rows, further columns, several texts a row."""

import dataclasses
import json

import numpy as np
import pytest

from codir_jax.data import dataset as dataset_lib
from codir_jax.data import pipeline, settings
from codir_jax.data.batch import LABELLED_COLUMNS, empty
from codir_jax.data.data_error import DataError
from codir_jax.data.sets import demo
from codir_jax.data.splits import RawSplit, columns_of
from codir_jax.data.tokenizer_training import train_wordpiece
from codir_jax.processes.user_error import UserError


@pytest.fixture(scope="module")
def wordpiece():
    return train_wordpiece(["the cat sat on a mat", "dogs run 0 1 2 3 4 5 6 7 8 9"], 80)


@pytest.fixture
def own(tmp_path, wordpiece):
    """own(files, **fields) loads own files; names are as the fields, without `_path`."""

    def load(files, seed=0, **fields):
        options = settings.default_config()
        options.name = "text_classification"
        for name, content in files.items():
            (tmp_path / name).write_text(content)
            options[f"{name.split('.')[0]}_path"] = str(tmp_path / name)
        options.update(fields)
        return dataset_lib.load(options, wordpiece, seed=seed)

    return load


def tokenize(tokenizer, raw, **changes):
    arguments = {"label_names": ("no", "yes"), "is_regression": False, "metrics": ("accuracy",), "max_length": 16}
    return dataset_lib.tokenize_dataset("small", raw, tokenizer=tokenizer, **{**arguments, **changes})


def test_two_seeds_draw_two_subsets_and_none_of_them_the_whole_set(wordpiece):
    options = settings.default_config()
    options.update({"name": "demo", "demo_num_train": 60, "demo_num_dev": 20})
    whole = [dataset_lib.load(options, wordpiece, seed=seed) for seed in (0, 1)]
    assert whole[0].fingerprint == whole[1].fingerprint and whole[0].info.num_train == 60
    options.num_train_examples = 20
    drawn = [dataset_lib.load(options, wordpiece, seed=seed) for seed in (0, 1, 0)]
    assert [data.info.num_train for data in drawn] == [20, 20, 20]
    assert drawn[0].fingerprint == drawn[2].fingerprint != drawn[1].fingerprint
    assert [len(data.splits["dev"]) for data in drawn] == [20, 20, 20]


def test_the_task_draws_by_the_seed_of_the_run(wordpiece):
    from codir_jax.objectives import finetune
    from codir_jax.stage import config as stage_config
    from codir_jax.tasks import classification

    config = stage_config.default_config(finetune.default_config())
    config.data.update({"name": "demo", "demo_num_train": 60, "demo_num_dev": 20, "num_train_examples": 20})
    fingerprints = []
    for config.seed in (0, 1):
        fingerprints.append(classification.make(config, wordpiece).fingerprint)
    assert fingerprints[0] != fingerprints[1]


def test_unlabelled_rows_join_a_train_split_without_any_label(wordpiece):
    raw = {"train": RawSplit(["a cat", "a dog", "dogs"]), "unlabelled": RawSplit(["the mat"])}
    data = tokenize(wordpiece, raw, num_train_examples=2)
    assert data.info.num_train == 3 and data.info.num_labelled == 0  # two of three, and the unlabelled one
    with pytest.raises(UserError, match="unlabelled texts join the train split, and small has only dev"):
        tokenize(wordpiece, {"dev": RawSplit(["a"], None, [0]), "unlabelled": RawSplit(["b"])})


def test_a_row_without_a_label_teaches_plain_fine_tuning_nothing(wordpiece, tmp_path):
    from codir_jax.objectives import distill, finetune
    from codir_jax.stage import config as stage_config
    from codir_jax.tasks import classification

    rows = [{"sentence": text, "label": label} for text, label in (("a cat", "no"), ("a dog", "yes"))]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "more.txt").write_text("the mat\n", encoding="utf-8")
    told = {}
    for method in (finetune, distill):
        config = stage_config.default_config(method.default_config())
        config.data.update({"name": "text_classification", "train_path": str(tmp_path / "train.jsonl")})
        config.data.unlabelled_path = str(tmp_path / "more.txt")
        task = classification.make(config, wordpiece)
        told[method] = task.data.info.num_train, task.describe()
    assert told[finetune][0] == 2 and "texts without labels left out, which teach finetune nothing" in told[finetune][1]
    assert told[distill][0] == 3 and "1 of train unlabelled" in told[distill][1]


def test_a_missing_file_of_unlabelled_texts_is_told_before_the_data_set_is_read(wordpiece, tmp_path, monkeypatch):
    options = settings.default_config()
    options.update({"name": "demo", "unlabelled_path": str(tmp_path / "more.txt")})
    monkeypatch.setattr(demo, "generate", None)
    with pytest.raises(DataError, match=r"more\.txt: there is no such file"):
        dataset_lib.load(options, wordpiece, seed=0)


def test_an_empty_batch_has_the_shapes_and_dtypes_of_the_columns(wordpiece):
    raw = RawSplit(["a cat", "a dog"], None, [1, 0], columns={"vector": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]})
    examples = tokenize(wordpiece, {"train": raw}).splits["train"]
    batch = pipeline.collate(examples, np.arange(2), batch_size=5, length_buckets=(8,), pad_token_id=0)
    zeros = empty(columns_of(examples), 5, length=8)
    assert {name: (v.shape, v.dtype) for name, v in batch.items()} == {n: (v.shape, v.dtype) for n, v in zeros.items()}
    assert not any(values.any() for values in zeros.values())
    with pytest.raises(ValueError, match="columns need sizes of length; got slots"):
        empty(LABELLED_COLUMNS, 5, slots=2)


def test_further_columns_follow_their_rows_through_sorting_drawing_and_joining(wordpiece):
    # The text of row i ends in i, and so does every column, so that any slip of order shows.
    number = range(10)
    labels = [None if i in (2, 5) else i % 2 for i in number]
    columns = {"weight": [i / 2 for i in number], "count": list(number), "place": [f"p{i}" for i in number]}
    raw = {
        "train": RawSplit([f"cat {i}" for i in number], None, labels, columns=columns),
        "unlabelled": RawSplit(
            ["cat 9", "cat 7"], columns={"weight": [4.5, 3.5], "count": [9, 7], "place": ["p9", "p7"]}
        ),
        "dev": RawSplit(["cat 3"], None, [1], columns={"place": ["p3"]}),
    }  # fmt: skip
    data = tokenize(wordpiece, raw, num_train_examples=5, seed=3)
    train = data.splits["train"]
    last = [int(wordpiece.decode([train.tokens[end - 2]])) for end in train.offsets[1:]]
    assert len(train) == 5 + 2 + 2 and last[5:] == [2, 5, 9, 7] and last[:5] == sorted(last[:5])
    assert train.columns["count"].tolist() == train.columns["place"].tolist() == last
    assert train.columns["weight"].tolist() == [i / 2 for i in last]
    assert {name: values.dtype for name, values in train.columns.items()} == {
        "weight": np.float32, "count": np.int32, "place": np.int32,
    }  # fmt: skip
    # Numbered among all ten rows of train, whatever was drawn.
    assert data.info.column_names == {"place": tuple(f"p{i}" for i in number)}
    assert data.splits["dev"].columns["place"].tolist() == [3]


def test_a_column_is_part_of_the_fingerprint(wordpiece):
    def fingerprint(**columns):
        return tokenize(wordpiece, {"train": RawSplit(["a cat", "dogs"], None, [0, 1], columns=columns)}).fingerprint

    cases = [{}, {"w": [1.0, 2.0]}, {"w": [1.0, 3.0]}, {"v": [1.0, 2.0]}, {"w": [1, 2]}, {"w": ["a", "b"]}]
    cases += [{"w": ["a", "c"]}]
    assert len({fingerprint(**columns) for columns in cases}) == len(cases)


@pytest.mark.parametrize(
    ("train", "dev", "message"),
    [
        ({"labels": [0, 1]}, {}, "a batch has columns labels already"),
        ({"w": [1.0, "x"]}, {}, "column 'w' of train holds both texts and numbers"),
        ({"w": ["x", "y"]}, {"w": [1.0]}, "column 'w' holds texts in train and numbers in dev"),
        ({"w": ["x", "y"]}, {"w": ["z"]}, "column 'w' of dev has 'z', which train does not have; known: x, y"),
        ({"w": [[1.0], [1.0, 2.0]]}, {}, "column 'w' of train is not one of numbers"),
        ({"w": [1, 1 << 31]}, {}, "column 'w' of train has whole numbers beyond"),
    ],
)
def test_columns_that_cannot_be_are_refused(wordpiece, train, dev, message):
    with pytest.raises(UserError, match=message):
        tokenize(
            wordpiece,
            {
                "train": RawSplit(["a", "b"], None, [0, 1], columns=train),
                "dev": RawSplit(["a"], None, [0], columns=dev),
            },
        )


def test_a_column_of_another_length_than_the_texts_is_a_slip_of_its_reader():
    with pytest.raises(ValueError, match="one entry of w a text: expected 2, got 1"):
        RawSplit(["a", "b"], None, [0, 1], columns={"w": [1.0]})


def test_columns_of_a_batch_are_not_given_twice(wordpiece):
    raw = RawSplit(["a cat", "a dog"], None, [1, 0], columns={"weight": [1.0, 2.0]})
    examples = tokenize(wordpiece, {"train": raw}).splits["train"]
    with pytest.raises(UserError, match="a batch has columns weight already"):
        pipeline.train_batches(examples, batch_size=2, length_buckets=(8,), pad_token_id=0, seed=0, window=1,
                               start_step=0, num_steps=1, columns={"weight": np.zeros(2)})  # fmt: skip
    with pytest.raises(ValueError, match="column 'v' needs one entry a row: expected 2, got 3"):
        dataclasses.replace(examples, columns={"v": np.zeros(3)})


OWN = "sentence\tlabel\tdomain\tweight\nthe cat\tgood\tsea\t1.5\na dog\tbad\thill\t2\ndogs\tbad\tsea\t-1e1\n"


def test_own_files_give_columns_of_numbers_and_of_names(own):
    unlabelled = "domain\tsentence\tweight\nhill\tthe mat\t7\n"
    data = own(
        {"train.tsv": OWN, "dev.tsv": "sentence\tlabel\tdomain\nx\tgood\tsea\n", "test.tsv": "sentence\nx\n",
         "unlabelled.tsv": unlabelled},
        columns="domain, weight",
    )  # fmt: skip
    train = data.splits["train"]
    assert data.info.column_names == {"domain": ("hill", "sea")} and data.info.num_labelled == 3
    assert train.columns["domain"].tolist() == [1, 0, 1, 0] and train.columns["domain"].dtype == np.int32
    assert train.columns["weight"].tolist() == [1.5, 2.0, -10.0, 7.0] and train.columns["weight"].dtype == np.float32
    assert set(data.splits["dev"].columns) == {"domain"} and not data.splits["test"].columns
    rows = [{"sentence": "x", "label": "a", "w": 3, "f": True}, {"sentence": "y", "label": "b", "w": 0.5, "f": False}]
    data = own({"train.jsonl": "\n".join(map(json.dumps, rows))}, columns="w,f", dev_path="", test_path="")
    assert data.splits["train"].columns["w"].tolist() == [3.0, 0.5]
    assert data.info.column_names == {"f": ("false", "true")}


@pytest.mark.parametrize(
    ("files", "columns", "message"),
    [
        ({"train.tsv": OWN}, "domian", "train.tsv:1: no column 'domian'; columns are .*; did you mean 'domain'"),
        ({"train.tsv": OWN + "x\tgood\t\t1\n"}, "domain", "train.tsv:5: empty value in column 'domain'"),
        ({"train.tsv": OWN + "x\tgood\tsea\thigh\n"}, "weight",
         "train.tsv:5: 'high' in column 'weight' is not a finite"),
        ({"train.tsv": OWN + "x\tgood\tsea\tnan\n"}, "weight", "train.tsv:5: 'nan' in column 'weight' is not a finite"),
        ({"train.jsonl": '{"sentence": "x", "label": 0, "w": [1]}\n{"sentence": "y", "label": 1, "w": 1}'}, "w",
         r"train.jsonl:1: expected a number or a text in column 'w', got \[1\]"),
        ({"train.tsv": OWN, "unlabelled.txt": "x\n"}, "domain",
         "unlabelled.txt: rows of train have the columns domain"),
        ({"train.tsv": OWN, "unlabelled.tsv": "sentence\nx\n"}, "domain", "unlabelled.tsv:1: no column 'domain'"),
    ],
)  # fmt: skip
def test_bad_columns_of_own_files_are_told_with_file_and_line(own, files, columns, message):
    with pytest.raises(DataError, match=message):
        own(files, columns=columns)


def test_columns_named_twice_or_like_a_batchs_own_are_refused_before_a_file_is_opened():
    options = settings.default_config()
    options.name = "text_classification"
    for columns, message in (("a,b,a", r"data\.columns names one twice"), ("text_ids", "has columns text_ids already")):
        options.columns = columns
        with pytest.raises(UserError, match=message):
            settings.check(options)


def test_a_column_joins_a_batch_by_another_name_or_besides_being_a_text_or_a_label(own):
    unlabelled = "domain\tsentence\tlabel\tweight\nhill\tthe mat\t?\t7\n"
    data = own(
        {"train.tsv": OWN, "dev.tsv": OWN, "unlabelled.tsv": unlabelled},
        columns="domain_ids=domain, example_weights = weight, text=sentence, kind=label",
    )
    train = data.splits["train"]
    assert train.columns["domain_ids"].tolist() == [1, 0, 1, 0]
    assert train.columns["example_weights"].tolist() == [1.5, 2.0, -10.0, 7.0]
    assert data.info.column_names["kind"] == ("?", "bad", "good") and len(data.info.column_names["text"]) == 4
    assert data.splits["dev"].columns["domain_ids"].tolist() == [1, 0, 1]


@pytest.mark.parametrize("name", ["demo", "text_classification"])
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("=domain", "expected NAME=COLUMN or NAME, comma separated, got '=domain'"),
        ("domain=", "expected NAME=COLUMN or NAME"),
        ("a=x,a=y", "names one twice"),
        ("labels=label", "has columns labels already"),
        ("document_ids=id", "has columns document_ids already"),  # of a corpus: an objective reads them
        ("teacher_logits=x", "has columns teacher_logits already"),
    ],
)
def test_columns_that_cannot_be_are_refused_for_every_set(name, columns, message):
    options = settings.default_config()
    options.update({"name": name, "columns": columns})
    with pytest.raises(UserError, match=message):
        settings.check(options)


def test_columns_that_a_data_set_does_not_bring_are_refused():
    options = settings.default_config()
    options.update({"name": "demo", "columns": "domain_ids=domain", "demo_num_train": 4, "demo_num_dev": 2})
    with pytest.raises(UserError, match=r"data.columns wants domain_ids, which data.name='demo' does not bring"):
        dataset_lib.read(options)
