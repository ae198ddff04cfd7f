"""GLUE's official layout on tiny files, the array_record cache, and the download from a server on this machine."""

import functools
import http.server
import sys
import threading
import zipfile

import pytest

from codir_jax.data import dataset, settings
from codir_jax.data.data_error import DataError
from codir_jax.data.sets import glue, glue_builder, glue_files
from codir_jax.data.tokenizer_training import train_wordpiece

STSB_HEAD = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2"
MNLI_HEAD = "index\tpromptID\tpairID\tgenre\ts1_parse\ts2_parse\ts1_binary\ts2_binary\tsentence1\tsentence2"
MRPC_HEAD = "#1 ID\t#2 ID\t#1 String\t#2 String"
LABELLED_PAIRS = "index\tsentence1\tsentence2\tlabel\n0\ta 0\tb 0\t{0}\n1\ta 1\tb 1\t{1}\n"
TEST_PAIRS = "index\tsentence1\tsentence2\n0\ta 0\tb 0\n1\ta 1\tb 1\n2\ta 2\tb 2\n"


def mnli(num_annotators: int) -> str:
    annotators = "".join(f"\tlabel{i + 1}" for i in range(num_annotators))
    rows = [f"{i}\t1\t1e\tfiction\t( a )\t( b )\t(a\t(b\ta {i}\tb {i}" for i in range(3)]
    labels = ["neutral", "entailment", "contradiction"]
    body = [row + "\tneutral" * num_annotators + "\t" + label for row, label in zip(rows, labels, strict=True)]
    return MNLI_HEAD + annotators + "\tgold_label\n" + "\n".join(body) + "\n"


def mnli_test() -> str:
    return MNLI_HEAD + "\n" + "".join(f"{i}\t1\t1e\tf\t(\t(\t(\t(\ta {i}\tb {i}\n" for i in range(3))


QQP_ROW = "{0}\t1\t2\ta {0}\tb {0}\t{1}\n"
OFFICIAL = {
    "cola": ("CoLA", {
        "train.tsv": "gj04\t1\t\tA \"quote\n" "gj04\t0\t*\tquote the cat.\n",
        "dev.tsv": "gj04\t0\t*\tCat the.\n",
        "test.tsv": "index\tsentence\n0\tFirst.\n1\tSecond.\n2\tThird.\n",
    }),
    "sst2": ("SST-2", {
        "train.tsv": "sentence\tlabel\nfine \t1\nbad \t0\n",
        "dev.tsv": "sentence\tlabel\nfine\t1\n",
        "test.tsv": "index\tsentence\n0\tfine\n",
    }),
    "mrpc": ("MRPC", {
        "train.tsv": f"\ufeffQuality\t{MRPC_HEAD}\n1\t10\t11\ta 0\tb 0\n0\t12\t13\ta 1\tb 1\n",
        "dev.tsv": f"Quality\t{MRPC_HEAD}\n1\t10\t11\ta 2\tb 2\n",
        "test.tsv": f"index\t{MRPC_HEAD}\n0\t10\t11\ta 3\tb 3\n",
    }),
    "stsb": ("STS-B", {
        "train.tsv": f"{STSB_HEAD}\tscore\n0\tg\tf\t2012\t1\tnone\tnone\ta 0\tb 0\t5.000\n"
        "1\tg\tf\t2\t1\tn\tn\ta 1\tb 1\t0.5\n",
        "dev.tsv": f"{STSB_HEAD}\tscore\n0\tg\tf\t2012\t1\tnone\tnone\ta\tb\t2.5\n",
        "test.tsv": f"{STSB_HEAD}\n0\tg\tf\t2012\t1\tnone\tnone\ta\tb\n",
    }),
    "qqp": ("QQP", {
        "train.tsv": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n" + QQP_ROW.format(0, 1)
        + "5\t1\t2\ttorn\n" + "6\t1\t2\t\tempty\t0\n" + QQP_ROW.format(1, 0),
        "dev.tsv": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n" + QQP_ROW.format(7, 1),
        "test.tsv": "id\tquestion1\tquestion2\n0\ta\tb\n1\t\tb\n",
    }),
    "mnli": ("MNLI", {
        "train.tsv": mnli(1), "dev_matched.tsv": mnli(5), "dev_mismatched.tsv": mnli(5),
        "test_matched.tsv": mnli_test(), "test_mismatched.tsv": mnli_test(),
    }),
    "qnli": ("QNLI", {
        "train.tsv": "index\tquestion\tsentence\tlabel\n0\ta 0\tb 0\tnot_entailment\n1\ta 1\tb 1\tentailment\n",
        "dev.tsv": "index\tquestion\tsentence\tlabel\n0\ta\tb\tentailment\n",
        "test.tsv": "index\tquestion\tsentence\n0\ta\tb\n",
    }),
    "rte": ("RTE", {
        "train.tsv": LABELLED_PAIRS.format("not_entailment", "entailment"),
        "dev.tsv": LABELLED_PAIRS.format("entailment", "entailment"), "test.tsv": TEST_PAIRS,
    }),
    "wnli": ("WNLI", {
        "train.tsv": LABELLED_PAIRS.format(1, 0), "dev.tsv": LABELLED_PAIRS.format(0, 0), "test.tsv": TEST_PAIRS,
    }),
    "ax": ("diagnostic", {"diagnostic.tsv": TEST_PAIRS}),
}  # fmt: skip
TRAIN_LABELS = {
    "cola": [1, 0], "sst2": [1, 0], "mrpc": [1, 0], "stsb": [5.0, 0.5], "qqp": [1, 0], "mnli": [1, 0, 2],
    "qnli": [1, 0], "rte": [1, 0], "wnli": [1, 0],
}  # fmt: skip


def write(root, task, **changed):
    folder = root / OFFICIAL[task][0]
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in {**OFFICIAL[task][1], **changed}.items():
        (folder / name).write_bytes(content.encode())
    return folder


@pytest.fixture
def config(tmp_path):
    config = settings.default_config()
    config.glue_dir, config.tfds_data_dir = str(tmp_path / "glue"), str(tmp_path / "cache")
    return config


@pytest.mark.parametrize("task", OFFICIAL)
def test_official_files_of_every_task_come_back_in_order_through_array_record(task, tmp_path, config):
    folder = write(tmp_path / "glue", task)
    config.name = task
    raw, label_names, is_regression, metrics, _ = glue.read(config)
    assert raw == glue_files.read_official(folder, task)
    assert list(tmp_path.glob("cache/**/*array_record*"))
    assert set(raw) == set(glue.TASKS[task].files) and metrics == glue.TASK_METRICS[task]
    assert is_regression == (task == "stsb") == (label_names == ())
    assert all(rows.labels is None for split, rows in raw.items() if split.startswith("test"))
    assert all((rows.texts_b is None) == (task in ("cola", "sst2")) for rows in raw.values())
    if task != "ax":
        assert raw["train"].labels == TRAIN_LABELS[task]
    if task not in ("cola", "sst2", "ax"):
        assert (raw["train"].texts_a[1], raw["train"].texts_b[1]) == ("a 1", "b 1")
    assert "tensorflow" not in sys.modules
    assert glue.read(config)[0] == raw  # now from the cache


def test_every_task_has_label_order_of_the_stock_builder():
    from tensorflow_datasets.text.glue import Glue

    stock = {config.name: config for config in Glue.BUILDER_CONFIGS}
    for name, task in glue.TASKS.items():
        assert tuple(stock[name].label_classes or ()) == task.label_names, name
        assert len(stock[name].text_features) == len(task.texts)


def test_quotes_in_cola_are_characters(tmp_path):
    assert glue_files.read_official(write(tmp_path, "cola"), "cola")["train"].texts_a == ['A "quote', "quote the cat."]


def test_mrpc_in_microsofts_layout_splits_train_by_the_dev_ids(tmp_path, config):
    folder = tmp_path / "glue" / "MRPC"
    folder.mkdir(parents=True)
    rows = "1\t10\t11\ta 0\tb 0\n0\t12\t13\ta 1\tb 1\n1\t14\t15\ta 2\tb 2\n"
    for name in ("train", "test"):
        (folder / f"msr_paraphrase_{name}.txt").write_text(f"\ufeffQuality\t{MRPC_HEAD}\n{rows}", encoding="utf-8")
    (folder / "dev_ids.tsv").write_text("14\t15\n")
    config.name = "mrpc"
    raw, *_ = glue.read(config)
    assert raw["train"].texts_a == ["a 0", "a 1"] and raw["train"].labels == [1, 0]
    assert raw["dev"].texts_b == ["b 2"] and raw["dev"].labels == [1]
    assert len(raw["test"]) == 3 and raw["test"].labels is None


def test_a_changed_file_never_reads_an_old_cache(tmp_path, config):
    write(tmp_path / "glue", "sst2")
    config.name = "sst2"
    assert glue.read(config)[0]["dev"].texts_a == ["fine"]
    write(tmp_path / "glue", "sst2", **{"dev.tsv": "sentence\tlabel\nfile\t1\n"})  # of equal size
    assert glue.read(config)[0]["dev"].texts_a == ["file"]


def test_a_cache_that_lost_rows_is_refused(tmp_path, config, monkeypatch):
    write(tmp_path / "glue", "sst2")
    config.name = "sst2"
    glue.read(config)
    original = glue_builder._glue_builder().as_data_source
    monkeypatch.setattr(
        glue_builder._glue_builder(), "as_data_source", lambda self, split: [0] * (len(original(self, split)) - 1)
    )
    with pytest.raises(ValueError, match=r"has 1 examples, expected 2; delete .* and run again"):
        glue.read(config)


def test_a_folder_without_test_file_reads_and_without_dev_file_does_not(tmp_path):
    folder = write(tmp_path, "rte")
    (folder / "test.tsv").unlink()
    assert set(glue_files.read_official(folder, "rte")) == {"train", "dev"}
    (folder / "dev.tsv").unlink()
    with pytest.raises(DataError, match=r"dev\.tsv: there is no such file"):
        glue_files.read_official(folder, "rte")


@pytest.mark.parametrize(
    ("task", "files", "expected"),
    [
        ("cola", {"train.tsv": "gj04\t1\t\tfine\ngj04\t2\t\tfine\ngj04\t0\t\tfine\n"}, "train.tsv:2: unknown label "
         "'2'; known: unacceptable (0), acceptable (1)"),
        ("cola", {"dev.tsv": "gj04\t1\tfine\n"}, "dev.tsv:1: expected 4 columns, got 3"),
        ("sst2", {"train.tsv": "sentence\tlabel\nfine\t1\nfine\t1\n"}, "train.tsv: class 'negative' has no example in "
         "train"),
        ("rte", {"dev.tsv": "index\tsentence1\tsentence2\tlabels\n0\ta\tb\tentailment\n"}, "dev.tsv:1: no column "
         "'label'; columns are index, sentence1, sentence2, labels; did you mean 'labels'?"),
        ("rte", {"test.tsv": "index\tsentence1\tsentence2\n0\ta\t \n"}, "test.tsv:2: empty text in column 'sentence2'"),
        ("stsb", {"dev.tsv": f"{STSB_HEAD}\tscore\n0\tg\tf\t2\t1\tn\tn\ta\tb\tnan\n"}, "dev.tsv:2: score 'nan' is not "
         "finite"),
        ("stsb", {"dev.tsv": f"{STSB_HEAD}\tscore\n0\tg\tf\t2\t1\tn\tn\ta\tb\t5.5\n"}, "dev.tsv:2: score 5.5 is not in "
         "0..5"),
    ],
)  # fmt: skip
def test_bad_official_files_are_told_with_file_and_line_and_never_cached(task, files, expected, tmp_path, config):
    write(tmp_path / "glue", task, **files)
    config.name = task
    with pytest.raises(DataError) as caught:
        glue.read(config)
    assert [problem.rpartition("/")[2] for problem in caught.value.problems] == [expected]
    assert not list(tmp_path.glob("cache/*"))


def test_a_missing_task_folder_tells_what_is_there(tmp_path, config):
    write(tmp_path / "glue", "cola")
    config.name = "sst2"
    with pytest.raises(DataError, match=r"no folder SST-2 for task sst2; found CoLA"):
        glue.read(config)


def test_a_task_loads_with_unlabelled_pairs(tmp_path, config):
    write(tmp_path / "glue", "rte")
    (tmp_path / "more.tsv").write_text("sentence1\tsentence2\na 0\tb 0\nnew\tpair\n")
    config.update(name="rte", unlabelled_path=str(tmp_path / "more.tsv"))
    config.update(text_column="sentence1", text_pair_column="sentence2")
    data = dataset.load(config, train_wordpiece(["a b 0 1 2 new pair"], 60), seed=0)
    assert data.info.splits == ("train", "dev", "test") and data.info.is_pair and data.info.num_classes == 2
    assert data.splits["train"].text_ids.tolist() == [0, 1, 0, 3] and data.info.num_labelled == 2
    assert data.splits["train"].token_types.max() == 1


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves tmp_path/www on this machine in place of GLUE's addresses; returns the list of paths asked for."""
    (tmp_path / "www").mkdir()
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(self.path)

    handler = functools.partial(Handler, directory=str(tmp_path / "www"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{running.server_port}"
        monkeypatch.setattr(
            glue_builder,
            "_sources",
            lambda name: {"diagnostic.tsv": f"{address}/ax.tsv"} if name == "ax" else {"": f"{address}/{name}.zip"},
        )
        yield asked
        running.shutdown()


def serve_zip(tmp_path, task, **changed):
    folder, files = OFFICIAL[task]
    with zipfile.ZipFile(tmp_path / "www" / f"{task}.zip", "w") as archive:
        for name, content in {**files, **changed}.items():
            archive.writestr(f"{folder}/{name}", content)
        archive.writestr(f"{folder}/original/raw/in_domain.tsv", "of no use")
        archive.writestr(f"__MACOSX/{folder}/._train.tsv", b"\xff")


def test_a_download_is_unpacked_without_tensorflow_and_kept(tmp_path, config, server):
    serve_zip(tmp_path, "cola")
    (tmp_path / "www" / "ax.tsv").write_text(TEST_PAIRS)
    config.update(name="cola", glue_dir="")
    raw, *_ = glue.read(config)
    assert raw == glue_files.read_official(write(tmp_path / "glue", "cola"), "cola")
    num_asked = len(server)
    assert glue.read(config)[0] == raw and len(server) == num_asked
    config.name = "ax"
    assert glue.read(config)[0]["test"].texts_a == ["a 0", "a 1", "a 2"]
    assert "tensorflow" not in sys.modules


def test_a_download_that_fails_or_is_broken_leaves_nothing_and_says_what_to_do(tmp_path, config, server):
    config.update(name="rte", glue_dir="")
    with pytest.raises(FileNotFoundError, match=r"could not be downloaded .*set\s+data\.glue_dir"):
        glue.read(config)
    serve_zip(tmp_path, "sst2", **{"dev.tsv": "sentence\tlabel\nfine\t7\n"})
    config.name = "sst2"
    with pytest.raises(DataError, match=r"dev\.tsv:2: unknown label '7'"):
        glue.read(config)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["downloads"]
