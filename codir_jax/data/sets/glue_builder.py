"""GLUE rows through tensorflow-datasets, as array_record, without TensorFlow.

The stock Glue builder unpacks its zip with TensorFlow and reads with csv in text mode. The subclass here keeps its
features, URLs and checksums, unpacks with zipfile and takes its rows from a reader that is given (glue_files.py), so
that downloaded and local files are read and checked by the same code.

A prepared dataset lies in a folder named after the fingerprint of its source: a changed source never meets an old one.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import shutil
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path

from codir_jax.data.data_error import DataError
from codir_jax.data.splits import RawSplit
from codir_jax.processes.user_error import MissingFileError, UserError

Rows = dict[str, RawSplit]

# Asked when the address that TFDS knows, a bucket of another project, does not answer; its checksum must be the same.
_MRPC_DEV_IDS_COPY = "https://dl.fbaipublicfiles.com/glue/data/mrpc_dev_ids.tsv"
_READ_CHUNK = 4096


def prepared_rows(name: str, cache: Path, key: str, *, read_rows: Callable[[], Rows]) -> Rows:
    """Returns the rows of the dataset prepared under `key`, prepared from `read_rows()` where it is not there yet."""
    folder = cache / f"{name}-{key}"
    if not folder.is_dir():
        rows = read_rows()  # before TFDS is touched, so that its errors come out as they are
        _prepare(name, cache, folder, lambda download_manager: rows)
    return _read_prepared(name, folder)


def downloaded_rows(name: str, cache: Path, *, read_folder: Callable[[Path], Rows]) -> Rows:
    """Returns the rows of the official files, downloaded to `cache` once; `read_folder` reads the unpacked files.

    Raises:
      MissingFileError: the download failed.
    """
    sources, folder = _sources(name), _download_folder(name, cache)
    if not folder.is_dir():

        def fetch(download_manager) -> Rows:
            official = cache / "downloads" / f"official-{name}-{uuid.uuid4().hex}"
            try:
                _download(sources, download_manager, official)
                return read_folder(official)
            finally:
                shutil.rmtree(official, ignore_errors=True)

        try:
            _prepare(name, cache, folder, fetch)
        except DataError:
            raise
        except Exception as error:  # requests, urllib3, TFDS and OS errors have no common base
            reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
            raise MissingFileError(
                f"GLUE task {name} is not in {cache} and could not be downloaded ({reason}); where there is no "
                "network, set data.glue_dir to a folder in the official layout (CoLA/train.tsv, ...)"
            ) from error
    return _read_prepared(name, folder)


def is_downloaded(name: str, cache: Path) -> bool:
    """Whether `downloaded_rows` has its rows in `cache`."""
    return _download_folder(name, cache).is_dir()


def _download_folder(name: str, cache: Path) -> Path:
    checksums = _glue_builder().url_infos
    known = [f"{url} {checksums[url].checksum if url in checksums else ''}" for url in _sources(name).values()]
    return cache / f"{name}-download-{hashlib.sha256(' '.join(known).encode()).hexdigest()[:16]}"


@functools.cache
def _glue_builder():
    """Returns the builder class; made once, because TFDS registers every subclass by its name."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.text import glue

    # Registered as "codir_glue". GlueConfigs, features and citations are inherited.
    class CodirGlue(glue.Glue):
        """GLUE from rows that are handed in."""

        # TFDS finds registered checksums through code_path, which needs importlib_resources, which TFDS 4.9.10 does not
        # declare. The stock builder's are read here, and nothing else needs the path.
        code_path = None
        url_infos = tfds.core.download.checksums.load_url_infos(
            tfds.core.utils.tfds_path() / "url_checksums" / "glue.txt"
        )

        def __init__(self, *, fetch=None, **kwargs):
            self.fetch = fetch
            super().__init__(**kwargs)

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(rows) for split, rows in self.fetch(dl_manager).items()}

        def _generate_examples(self, rows: RawSplit):
            text_features = list(self.builder_config.text_features)
            columns = [rows.texts_a] if rows.texts_b is None else [rows.texts_a, rows.texts_b]
            labels = rows.labels if rows.labels is not None else [-1] * len(rows)  # -1: hidden, as in the stock builder
            for i, (*texts, label) in enumerate(zip(*columns, labels, strict=True)):
                yield i, {**dict(zip(text_features, texts, strict=True)), "label": label, "idx": i}

    tfds.display_progress_bar(False)
    return CodirGlue


def _prepare(name: str, cache: Path, folder: Path, fetch) -> None:
    """Writes the dataset beside its final place and moves it there: of two processes at once, the first to end wins."""
    import tensorflow_datasets as tfds

    cache.mkdir(parents=True, exist_ok=True)
    unfinished = cache / f"unfinished-{name}-{uuid.uuid4().hex}"
    try:
        builder = _glue_builder()(data_dir=str(unfinished), config=name, file_format="array_record", fetch=fetch)
        # TFDS prints its folder, which is not the final one, to standard output, where predictions may be going.
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(
                download_dir=str(cache / "downloads"),
                download_config=tfds.download.DownloadConfig(try_download_gcs=False),
            )
        try:
            unfinished.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _read_prepared(name: str, folder: Path) -> Rows:
    builder = _glue_builder()(data_dir=str(folder), config=name, file_format="array_record")
    text_features = list(builder.builder_config.text_features)
    raw: Rows = {}
    for split, split_info in builder.info.splits.items():
        source = builder.as_data_source(split)
        if len(source) != split_info.num_examples:
            raise UserError(
                f"prepared GLUE {name} {split} has {len(source)} examples, expected {split_info.num_examples}; "
                f"delete {folder} and run again"
            )
        examples = []
        for start in range(0, len(source), _READ_CHUNK):
            examples += source.__getitems__(range(start, min(start + _READ_CHUNK, len(source))))
        # TFDS shuffles when it writes; "idx" is the row in the official file.
        examples.sort(key=lambda example: int(example["idx"]))
        texts = [[example[feature].decode("utf-8") for example in examples] for feature in text_features]
        labels = None
        if not split.startswith("test"):
            label_type = int if builder.builder_config.label_classes else float
            labels = [label_type(example["label"]) for example in examples]
        raw[split] = RawSplit(texts[0], texts[1] if len(texts) > 1 else None, labels)
    return raw


def _sources(name: str) -> dict[str, str]:
    """Returns official file name ("" for a zip) -> address."""
    from tensorflow_datasets.text import glue

    if name == "mrpc":
        return {
            "msr_paraphrase_train.txt": glue._MRPC_TRAIN,
            "msr_paraphrase_test.txt": glue._MRPC_TEST,
            "dev_ids.tsv": glue._MRPC_DEV_IDS,
        }
    (config,) = (config for config in glue.Glue.BUILDER_CONFIGS if config.name == name)
    return {"diagnostic.tsv" if name == "ax" else "": config.data_url}


def _download(sources: dict[str, str], download_manager, folder: Path) -> None:
    """Puts the task's official files into `folder`."""
    folder.mkdir(parents=True)
    for file_name, url in sources.items():
        try:
            path = download_manager.download(url)
        except Exception:
            if file_name != "dev_ids.tsv":
                raise
            path = download_manager.download(_MRPC_DEV_IDS_COPY)
            expected = _glue_builder().url_infos[url].checksum
            if hashlib.sha256(Path(path).read_bytes()).hexdigest() != expected:
                raise
        if file_name:
            shutil.copyfile(path, folder / file_name)
        else:
            _unpack(Path(path), folder)


def _unpack(archive: Path, folder: Path) -> None:
    """Unpacks the TSV files one level down: the zips also hold the corpora's own releases and macOS leftovers."""
    with zipfile.ZipFile(archive) as unpacked:
        for member in unpacked.namelist():
            parts = member.split("/")
            if len(parts) == 2 and parts[1].endswith(".tsv") and parts[0] != "__MACOSX":
                (folder / parts[1]).write_bytes(unpacked.read(member))
