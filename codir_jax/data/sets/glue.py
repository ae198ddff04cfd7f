"""The nine GLUE tasks and the diagnostic set (ax), downloaded or from a folder in the official layout.

Either way rows go through tensorflow-datasets as array_record, without TensorFlow (glue_builder.py), after the same
reader (glue_files.py). Splits are "train", "dev", "test"; MNLI has "dev_mismatched" and "test_mismatched" besides the
matched ones.
"""

from __future__ import annotations

from codir_jax.data.sets import glue_builder, glue_files
from codir_jax.data.sets.contract import RawData, Unread
from codir_jax.data.sets.glue_files import TASKS
from codir_jax.processes.cache_folder import cache_folder
from codir_jax.processes.fields import field

NAMES = tuple(TASKS)
# Those with a train split.
TRAINABLE_TASKS = tuple(name for name, task in TASKS.items() if "train" in task.files)

TASK_METRICS: dict[str, tuple[str, ...]] = {
    "cola": ("matthews_correlation", "accuracy"),
    "sst2": ("accuracy",),
    "mrpc": ("f1", "accuracy", "combined"),
    "stsb": ("pearson", "spearman", "combined"),
    "qqp": ("accuracy", "f1", "combined"),
    "mnli": ("accuracy",),
    "qnli": ("accuracy",),
    "rte": ("accuracy",),
    "wnli": ("accuracy",),
    "ax": ("matthews_correlation", "accuracy"),
}


# Rows of the train files, as in tensorflow_datasets.text.glue.
NUM_TRAIN = {
    "cola": 8551, "sst2": 67349, "mrpc": 3668, "stsb": 5749, "qqp": 363846, "mnli": 392702, "qnli": 104743,
    "rte": 2490, "wnli": 635,
}  # fmt: skip


# What only GLUE reads.
FIELDS = {
    # One subfolder a task (CoLA, SST-2, ...); empty: download through TFDS.
    "glue_dir": field("", "folder in the official GLUE layout"),
    "tfds_data_dir": field("", "where prepared TFDS array_records are kept; empty: the user's cache", binds=False),
}


def read(config) -> RawData:
    """Returns the rows of the task `data.name`.

    Raises:
      DataError: with file and line of up to ten problems.
      MissingFileError: no glue_dir is set and the download failed.
    """
    task, cache = TASKS[config.name], cache_folder("glue", config.tfds_data_dir)
    if config.glue_dir:
        folder = glue_files.task_folder(config.glue_dir, config.name)
        raw = glue_builder.prepared_rows(
            config.name,
            cache,
            f"local-{glue_files.fingerprint(folder, config.name)}",
            read_rows=lambda: glue_files.read_official(folder, config.name),
        )
    else:
        raw = glue_builder.downloaded_rows(
            config.name, cache, read_folder=lambda folder: glue_files.read_official(folder, config.name)
        )
    return RawData(raw, task.label_names, not task.label_names, TASK_METRICS[config.name])


def unread(config) -> Unread | None:
    """Returns the size of a task that was not downloaded so far; None where it lies here, or rows join it."""
    task = TASKS[config.name]
    if config.name not in NUM_TRAIN or config.glue_dir or config.unlabelled_path:
        return None
    if glue_builder.is_downloaded(config.name, cache_folder("glue", config.tfds_data_dir)):
        return None
    return Unread(NUM_TRAIN[config.name], len(task.label_names) or 1, not task.label_names)
