"""From the `data` section of a config to a tokenised `Dataset`, the same way for every data set (data/sets)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np

from codir_jax.data import token_cache
from codir_jax.data import unlabelled as unlabelled_lib
from codir_jax.data.numbered import number_columns
from codir_jax.data.on_disk import load as on_disk
from codir_jax.data.on_disk import sources
from codir_jax.data.on_disk.examples import StoredExamples
from codir_jax.data.sets import contract
from codir_jax.data.sets.contract import RawData
from codir_jax.data.shards import preparation
from codir_jax.data.shards.preparation import Together
from codir_jax.data.shuffle import drawn
from codir_jax.data.splits import Dataset, DatasetInfo, Examples, RawSplit
from codir_jax.data.table_columns import named_columns
from codir_jax.processes.cache_folder import cache_folder
from codir_jax.processes.user_error import UserError

# Of a train set on disk, for a person or a simple model to read.
_MAX_DRAWN_ROWS = 20_000


def load(options, tokenizer, *, seed: int, together: Together = preparation.ALONE) -> Dataset:
    """Returns the data set that a config names, checked in full and tokenised.

    A train split of `streamed.LEAST_BYTES` of text or more goes through shards on disk and is never whole in memory.

    Args:
      options: the `data` section of a config (data/settings.py).
      tokenizer: fast transformers tokenizer.
      seed: of the run; it draws the rows of `data.num_train_examples`.
      together: the processes of the run; each of them calls it.

    Raises:
      DataError: with file and line of up to ten problems.
      UserError: as `tokenize_dataset`, or no such data set.
    """
    unlabelled_lib.check_is_there(options)  # first, because it is the quicker to be wrong
    found = sources.find(options)
    if found is None:
        raw = read(options)
        return tokenize_dataset(
            options.name,
            raw.splits,
            label_names=raw.label_names,
            is_regression=raw.is_regression,
            metrics=raw.metrics,
            tokenizer=tokenizer,
            max_length=options.max_length,
            num_train_examples=options.num_train_examples,
            seed=seed,
            is_multi_label=raw.is_multi_label,
        )
    train = on_disk.load(
        found.train,
        tokenizer,
        max_length=options.max_length,
        num_train_examples=options.num_train_examples,
        seed=seed,
        root=cache_folder("rows", options.cache_dir),
        together=together,
    )
    rest = found.rest(train.label_names, train.has_rows if together.index == 0 else None)
    raw, column_names = number_columns(rest.splits, train.column_names)
    splits, num_truncated = {"train": train.examples}, {"train": train.num_truncated}
    for split, rows in raw.items():
        splits[split], num_truncated[split] = tokenize_split(rows, tokenizer, options.max_length, rest.is_regression)
    info = DatasetInfo(
        name=options.name,
        num_train=len(train.examples),
        num_labelled=train.examples.is_labelled.sum(),
        num_classes=1 if rest.is_regression else len(train.label_names),
        label_names=() if rest.is_regression else train.label_names,
        is_regression=rest.is_regression,
        is_pair=found.train.is_pair,
        metrics=tuple(rest.metrics),
        num_truncated=num_truncated,
        splits=tuple(splits),
        column_names=column_names | {name: names for name, names in train.column_names.items() if names},
    )
    _kind(options.name, raw, (found.train.is_pair, 1))
    pad_token_id = int(tokenizer.pad_token_id)
    return Dataset(info, splits, pad_token_id, fingerprint(info, splits, pad_token_id))


def read(options) -> RawData:
    """Returns the rows of the data set that a config names, with those of `data.unlabelled_path` as "unlabelled".

    Raises:
      DataError: with file and line of up to ten problems.
      UserError: no such data set, it does not bring `data.columns`, or there is no train split for unlabelled rows.
    """
    unlabelled_lib.check_is_there(options)  # first, because it is the quicker to be wrong
    wanted = named_columns(options)
    raw = contract.find(options.name).read(options)
    missing = [name for name in wanted if "train" in raw.splits and name not in raw.splits["train"].columns]
    if missing:
        raise UserError(f"data.columns wants {', '.join(missing)}, which data.name={options.name!r} does not bring")
    if not options.unlabelled_path:
        return raw
    if "train" not in raw.splits:
        raise _no_train(options.name, raw.splits)
    rows = unlabelled_lib.read(options, raw.splits["train"])
    return raw._replace(splits={**raw.splits, "unlabelled": rows})


def read_rows(options, label_names: Sequence[str], *, seed: int) -> dict[str, RawSplit]:
    """Returns the labelled rows of `load` as a person reads them, in its order; of a train set on disk a draw of train.

    Args:
      options, seed: as of `load`. label_names: of its classes, in order.
    """
    found = sources.find(options)
    if found is not None:
        most = min(options.num_train_examples or _MAX_DRAWN_ROWS, _MAX_DRAWN_ROWS)
        train = sources.draw_labelled(found.train, label_names, most, seed)
        return {"train": train, **found.rest(tuple(label_names)).splits}
    splits = dict(contract.find(options.name).read(options).splits)
    splits.pop("unlabelled", None)
    if "train" in splits:
        rows = _labelled_first(splits["train"])
        num_labelled = _num_labelled(rows)
        if options.num_train_examples:
            rows = _draw(rows, num_labelled, options.num_train_examples, seed, label_names)
            num_labelled = min(num_labelled, options.num_train_examples)
        splits["train"] = rows.take(range(num_labelled))
    return splits


def tokenize_dataset(
    name: str,
    raw: Mapping[str, RawSplit],
    *,
    label_names: Sequence[str],
    is_regression: bool,
    metrics: Sequence[str],
    tokenizer,
    max_length: int,
    num_train_examples: int = 0,
    seed: int = 0,
    is_multi_label: bool = False,
) -> Dataset:
    """Returns the tokenised dataset; train rows are the labelled ones, then those without a label.

    Args:
      name: of the dataset.
      raw: split name -> rows, already validated; those of "unlabelled" join the train split without labels.
      label_names: class names in order; () for a regression.
      is_regression: labels are float targets.
      metrics: metric names, primary first.
      tokenizer: fast transformers tokenizer.
      max_length: tokens of an example at most, specials included.
      num_train_examples: labelled train rows to keep, drawn by `seed`, in their order; 0 keeps all.
      seed: of that draw only.
      is_multi_label: a text has any number of classes.

    Raises:
      UserError: pairs and single texts are mixed, or the draw leaves a class without an example.
    """
    raw = dict(raw)
    unlabelled = raw.pop("unlabelled", None)
    if unlabelled is not None and "train" not in raw:
        raise _no_train(name, raw)
    is_pair, texts_per_row = _kind(name, raw if unlabelled is None else {**raw, "unlabelled": unlabelled})
    num_labelled = 0
    if "train" in raw:
        train = _labelled_first(raw["train"])
        num_labelled = _num_labelled(train)
        raw["train"] = train if unlabelled is None else unlabelled_lib.append(train, unlabelled)
    # Before the draw, so that a class has the same number in every subset.
    raw, column_names = number_columns(raw)
    if "train" in raw and num_train_examples:
        raw["train"] = _draw(raw["train"], num_labelled, num_train_examples, seed, label_names)

    splits, num_truncated = {}, {}
    for split, rows in raw.items():
        splits[split], num_truncated[split] = tokenize_split(rows, tokenizer, max_length, is_regression)

    num_train = len(splits["train"]) if "train" in splits else 0
    info = DatasetInfo(
        name=name,
        num_train=num_train,
        num_labelled=int(splits["train"].is_labelled.sum()) if num_train else 0,
        num_classes=1 if is_regression else len(label_names),
        label_names=() if is_regression else tuple(label_names),
        is_regression=is_regression,
        is_pair=is_pair,
        metrics=tuple(metrics),
        num_truncated=num_truncated,
        splits=tuple(splits),
        texts_per_row=texts_per_row,
        column_names=column_names,
        is_multi_label=is_multi_label,
    )
    pad_token_id = int(tokenizer.pad_token_id)
    return Dataset(info, splits, pad_token_id, fingerprint(info, splits, pad_token_id))


def fingerprint(info: DatasetInfo, splits: Mapping[str, Examples], pad_token_id: int) -> str:
    """Returns sha256 hex of every array that a model is trained on and chosen by, and of what its classes mean.

    Other splits judge finished models, and a run may get them later.

    Whatever the tokenizer does is in its tokens: of its settings none can be forgotten, and one that changes no token
    changes nothing.
    """
    facts = [info.name, info.label_names, info.is_regression, info.column_names, pad_token_id]
    digest = hashlib.sha256(json.dumps(facts).encode())
    for split, examples in splits.items():
        if split not in ("train", "dev"):
            continue
        if isinstance(examples, StoredExamples):
            digest.update(f"\n{split} {examples.digest}".encode())
            continue
        arrays = {field.name: getattr(examples, field.name) for field in dataclasses.fields(examples)}
        arrays = {name: value for name, value in arrays.items() if isinstance(value, np.ndarray)}
        arrays |= {f"columns {column}": values for column, values in examples.columns.items()}
        digest.update(f"\n{split} of {examples.texts_per_row} texts".encode())
        for name, array in arrays.items():
            digest.update(f"\n{split} {name} {array.dtype.str} {array.shape}\n".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


def same_text_ids(*texts: Sequence[str] | None) -> np.ndarray:
    """Returns for each row the smallest row with the same texts, outer white space aside: int32 [n].

    Args:
      *texts: n texts each, the first, second, ... of every row; None is left out.
    """
    first: dict[tuple[str, ...], int] = {}
    rows = zip(*(column for column in texts if column is not None), strict=True)
    ids = [first.setdefault(tuple(text.strip() for text in row), number) for number, row in enumerate(rows)]
    return np.asarray(ids, np.int32)


def tokenize_split(rows: RawSplit, tokenizer, max_length: int, is_regression: bool) -> tuple[Examples, int]:
    """Returns one split tokenised, and how many of its texts were cut; its further columns are arrays already."""
    firsts = rows.texts_a
    if rows.apart:
        firsts = [text for row in zip(rows.texts_a, *rows.apart, strict=True) for text in row]
    tokens, token_types, offsets, num_truncated = token_cache.encode(tokenizer, firsts, rows.texts_b, max_length)
    labels = rows.labels if rows.labels is not None else [None] * len(rows)
    of_one = next((label for label in labels if label is not None), 0)
    nothing = (0,) * len(of_one) if isinstance(of_one, tuple) else 0
    is_float = is_regression or isinstance(of_one, tuple)
    text_ids = same_text_ids(firsts, rows.texts_b)
    examples = Examples(
        tokens=tokens,
        token_types=token_types,
        offsets=offsets,
        labels=np.asarray(
            [nothing if label is None else label for label in labels], np.float32 if is_float else np.int32
        ),
        is_labelled=np.asarray([label is not None for label in labels], bool),
        text_ids=text_ids.reshape(len(rows), -1) if rows.apart else text_ids,
        texts_per_row=rows.texts_per_row,
        columns={name: np.asarray(values) for name, values in rows.columns.items()},
    )
    return examples, num_truncated


def _kind(name: str, raw: Mapping[str, RawSplit], of_train: tuple[bool, int] | None = None) -> tuple[bool, int]:
    """(is_pair, texts of a row encoded each by itself), the same for all splits; `of_train`: of one that raw lacks."""
    kinds: dict[tuple[bool, int], list[str]] = {} if of_train is None else {of_train: ["train"]}
    for split, rows in raw.items():
        kinds.setdefault((rows.texts_b is not None, rows.texts_per_row), []).append(split)
    if len(kinds) > 1:
        told = " and ".join(
            f"{'pairs' if is_pair else f'{count} texts apart' if count > 1 else 'single texts'} in {', '.join(splits)}"
            for (is_pair, count), splits in sorted(kinds.items(), reverse=True)
        )
        raise UserError(f"one dataset holds either pairs or single texts; {name} has {told}")
    return next(iter(kinds))


def _no_train(name: str, splits: Mapping[str, RawSplit]) -> UserError:
    return UserError(f"unlabelled texts join the train split, and {name} has only {', '.join(splits)}")


def _labelled_first(rows: RawSplit) -> RawSplit:
    if rows.labels is None or None not in rows.labels:
        return rows
    # A stable sort: file order within each half.
    return rows.take(sorted(range(len(rows)), key=lambda i: rows.labels[i] is None))


def _num_labelled(rows: RawSplit) -> int:
    """Rows that a draw chooses from: those with a label, or all where no row has one."""
    return len(rows) if rows.labels is None else sum(label is not None for label in rows.labels)


def _draw(rows: RawSplit, num_labelled: int, num_examples: int, seed: int, label_names: Sequence[str]) -> RawSplit:
    """Returns `num_examples` of the first `num_labelled` rows in file order, and all rows after them.

    A draw of n is within the draw of n + 1 by the same seed.
    """
    if num_examples >= num_labelled:
        return rows
    kept = drawn(num_labelled, num_examples, seed).tolist()
    taken = rows.take([*kept, *range(num_labelled, len(rows))])
    present = set(taken.labels or ()) - {None}
    if any(isinstance(label, tuple) for label in present):
        present = {i for label in present for i, has_it in enumerate(label) if has_it}
    missing = [label_name for i, label_name in enumerate(label_names) if i not in present]
    if present and missing:
        raise UserError(
            f"num_train_examples={num_examples} of {num_labelled} leaves no example of {', '.join(missing)}; use more"
        )
    return taken
