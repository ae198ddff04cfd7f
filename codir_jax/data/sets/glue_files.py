"""The official files of the GLUE tasks: how each looks, and its rows.

Rows keep the order of the files, so that row i of a test split is index i of the leaderboard's file. Test labels are
not read, even where a file (MRPC's original one) holds them.

References: https://gluebenchmark.com; label order as in tensorflow_datasets.text.glue.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

from codir_jax.data.data_error import DataError
from codir_jax.data.delimited import Table, at, read_lines, read_table
from codir_jax.data.splits import RawSplit
from codir_jax.data.table_columns import check_texts, parse_targets

# Part of the cache key: count up when the reading of official files changes.
_READER_VERSION = 1
_MRPC_IDS, _MRPC_TEXTS = ("#1 ID", "#2 ID"), ("#1 String", "#2 String")
_MAX_SCORE = 5.0  # STS-B


@dataclasses.dataclass(frozen=True)
class Task:
    """How the official files of a task look.

    Attributes:
      folders: names that its folder goes by, the official one first.
      texts: columns of the texts, one or two.
      label: column of the label; "" where there is none.
      label_names: classes in the order of their numbers; () for STS-B.
      files: split -> names that its file goes by. A test file may be missing.
      header: columns of train and dev files without a header line.
      has_broken_rows: ragged rows and rows with an empty text are left out of train and dev (the stock builder leaves
        out ragged ones, for QQP's sake); everywhere else they are errors.
    """

    folders: tuple[str, ...]
    texts: tuple[str, ...]
    label: str
    label_names: tuple[str, ...]
    files: dict[str, tuple[str, ...]] = dataclasses.field(
        default_factory=lambda: {"train": ("train.tsv",), "dev": ("dev.tsv",), "test": ("test.tsv",)}
    )
    header: tuple[str, ...] | None = None
    has_broken_rows: bool = False


_PAIR = ("sentence1", "sentence2")
_NLI = ("entailment", "neutral", "contradiction")
TASKS: dict[str, Task] = {
    "cola": Task(
        ("CoLA",),
        ("sentence",),
        "label",
        ("unacceptable", "acceptable"),
        header=("source", "label", "star", "sentence"),
    ),
    "sst2": Task(("SST-2", "SST2"), ("sentence",), "label", ("negative", "positive")),
    "mrpc": Task(("MRPC",), _MRPC_TEXTS, "Quality", ("not_equivalent", "equivalent")),
    "stsb": Task(("STS-B", "STSB"), _PAIR, "score", ()),
    "qqp": Task(
        ("QQP",),
        ("question1", "question2"),
        "is_duplicate",
        ("not_duplicate", "duplicate"),
        has_broken_rows=True,
    ),
    "mnli": Task(
        ("MNLI",),
        _PAIR,
        "gold_label",
        _NLI,
        files={
            "train": ("train.tsv",),
            "dev": ("dev_matched.tsv",),
            "dev_mismatched": ("dev_mismatched.tsv",),
            "test": ("test_matched.tsv",),
            "test_mismatched": ("test_mismatched.tsv",),
        },
    ),
    "qnli": Task(("QNLI",), ("question", "sentence"), "label", ("entailment", "not_entailment")),
    "rte": Task(("RTE",), _PAIR, "label", ("entailment", "not_entailment")),
    "wnli": Task(("WNLI",), _PAIR, "label", ("not_entailment", "entailment")),
    "ax": Task(
        ("diagnostic", "AX"), _PAIR, "", _NLI, files={"test": ("diagnostic.tsv", "AX.tsv", "ax.tsv", "test.tsv")}
    ),
}


def task_folder(glue_dir: str, name: str) -> Path:
    """Returns the task's subfolder of a folder in the official layout, letter case aside."""
    root = Path(glue_dir).expanduser()
    if not root.is_dir():
        raise DataError([at(root, None, "data.glue_dir is not a folder; leave it empty to download")])
    wanted = {folder.casefold() for folder in (*TASKS[name].folders, name)}
    present = sorted(path for path in root.iterdir() if path.is_dir())
    for path in present:
        if path.name.casefold() in wanted:
            return path
    found = ", ".join(path.name for path in present) or "no folders"
    raise DataError([at(root, None, f"no folder {TASKS[name].folders[0]} for task {name}; found {found}")])


def read_official(folder: Path, name: str) -> dict[str, RawSplit]:
    """Returns split -> rows of the official files in `folder`.

    Raises:
      DataError: with file and line of up to ten problems.
    """
    task = TASKS[name]
    problems: list[str] = []
    if name == "mrpc" and (folder / "msr_paraphrase_train.txt").exists() and not (folder / "train.tsv").exists():
        raw = _read_original_mrpc(folder, task, problems)
    else:
        raw = {}
        for split, path in _split_files(folder, task).items():
            rows = _read_split(path, task, split, problems)
            if rows is not None:
                raw[split] = rows
    _check_classes(folder, task, raw, problems)
    if problems:
        raise DataError(problems)
    return raw


def fingerprint(folder: Path, name: str) -> str:
    """Returns 16 hex digits of the sha256 of all files of the task that may be read: a changed file changes them."""
    digest = hashlib.sha256(f"{name} {_READER_VERSION}".encode())
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in (".tsv", ".txt") and path.is_file():
            digest.update(f"\0{path.name}\0{path.stat().st_size}\0".encode())
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()[:16]


def _split_files(folder: Path, task: Task) -> dict[str, Path]:
    """Returns split -> file; a missing test file has no entry, any other missing file is told when it is read."""
    files = {}
    for split, names in task.files.items():
        present = [folder / name for name in names if (folder / name).is_file()]
        if present or not split.startswith("test") or "train" not in task.files:
            files[split] = present[0] if present else folder / names[0]
    return files


def _read_split(path: Path, task: Task, split: str, problems: list[str]) -> RawSplit | None:
    is_test = split.startswith("test")
    may_skip = task.has_broken_rows and not is_test
    table = read_table(
        path,
        task.texts if is_test else (*task.texts, task.label),
        problems,
        header=None if is_test else task.header,
        skip_ragged=may_skip,
    )
    if table is None:
        return None
    if may_skip:
        table = _without_empty_texts(table, task.texts)
    texts = check_texts(table, task.texts, problems, may_be_empty=task.has_broken_rows)
    return RawSplit(*texts, None if is_test else _parse_labels(table, task, problems))


def _parse_labels(table: Table, task: Task, problems: list[str]) -> list[int | float | None] | None:
    values = table.columns[task.label]
    if not task.label_names:
        targets = parse_targets(table, values, problems)
        for line, target in zip(table.lines, targets or (), strict=bool(targets)):
            # A nan is neither inside nor outside and has been told already.
            if target is not None and (target < 0 or _MAX_SCORE < target < float("inf")):
                problems.append(at(table.path, line, f"score {target} is not in 0..{_MAX_SCORE:g}"))
        return targets
    classes = {name: i for i, name in enumerate(task.label_names)}
    numbers = {str(i): i for i in classes.values()}
    labels = []
    for line, value in zip(table.lines, values, strict=True):
        label = classes.get(value, numbers.get(value))
        if label is None:
            known = ", ".join(f"{name} ({i})" for name, i in classes.items())
            problems.append(at(table.path, line, f"unknown label {value!r}; known: {known}"))
        labels.append(label)
    return labels


def _without_empty_texts(table: Table, columns: Sequence[str]) -> Table:
    kept = [i for i in range(len(table.lines)) if all(table.columns[column][i].strip() for column in columns)]
    columns_kept = {name: [values[i] for i in kept] for name, values in table.columns.items()}
    return Table(table.path, [table.lines[i] for i in kept], columns_kept)


def _check_classes(folder: Path, task: Task, raw: dict[str, RawSplit], problems: list[str]) -> None:
    if task.label_names and "train" in raw:
        present = set(raw["train"].labels or ())
        for i, name in enumerate(task.label_names):
            if i not in present:
                path = folder / task.files["train"][0]
                problems.append(at(path, None, f"class {name!r} has no example in train"))


def _read_original_mrpc(folder: Path, task: Task, problems: list[str]) -> dict[str, RawSplit]:
    """Reads Microsoft's own files: GLUE's dev split is the pairs of the train file that dev_ids.tsv lists."""
    ids_path, train_path = folder / "dev_ids.tsv", folder / "msr_paraphrase_train.txt"
    dev_ids = set()
    for number, line in enumerate(read_lines(ids_path, problems) or (), 1):
        ids = tuple(line.split("\t"))
        if len(ids) != 2:
            problems.append(at(ids_path, number, f"expected two ids, got {len(ids)} columns"))
        dev_ids.add(ids)

    # Named .txt, and TSV.
    table = read_table(train_path, (*_MRPC_IDS, *task.texts, task.label), problems, suffix=".tsv")
    raw: dict[str, RawSplit] = {}
    if table is not None:
        texts_a, texts_b = check_texts(table, task.texts, problems)
        labels = _parse_labels(table, task, problems)
        is_dev = [ids in dev_ids for ids in zip(*(table.columns[name] for name in _MRPC_IDS), strict=True)]
        for split, wanted in (("train", False), ("dev", True)):
            rows = [i for i, value in enumerate(is_dev) if value is wanted]
            raw[split] = RawSplit(*([column[i] for i in rows] for column in (texts_a, texts_b, labels)))
        if dev_ids and not any(is_dev) and not problems:
            problems.append(at(ids_path, None, f"none of its pairs is in {train_path.name}"))
    test_path = folder / "msr_paraphrase_test.txt"
    if test_path.exists():
        table = read_table(test_path, task.texts, problems, suffix=".tsv")
        if table is not None:
            raw["test"] = RawSplit(*check_texts(table, task.texts, problems))
    return raw
