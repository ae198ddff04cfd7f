"""The tiny models, tables and runs that the cases read; made without training, where no case needs more."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

WORDS = "the cats dogs sleep sees that a key on table near old film was good bad warm".split()  # noqa: SIM905
ROWS = 48


def make(folder: Path) -> None:
    """Writes all of them into `folder`."""
    tokenizer = _tokenizer()
    _model(folder / "model", tokenizer, "classification", 2, ["neg", "pos"], seed=0)
    _model(folder / "demo", tokenizer, "classification", 2, ["unacceptable", "acceptable"], seed=1)
    _model(folder / "score", tokenizer, "classification", 1, None, seed=2)
    _model(folder / "mlm", tokenizer, "masked_lm", None, None, seed=3)
    _model(folder / "encoder", tokenizer, "embedding", None, None, seed=4)
    tokenizer.save_pretrained(str(folder / "tokenizer"))
    _sharded(folder / "model", folder / "sharded")
    _tables(folder)
    _saved_config(folder)


def _tokenizer():
    from codir_jax.data.tokenizer_training import train_wordpiece

    return train_wordpiece(WORDS, vocab_size=120)


def _model(folder: Path, tokenizer, head: str, num_labels, label_names, *, seed: int) -> None:
    import numpy as np
    from flax import traverse_util

    from codir_jax.convert.labels import Labels
    from codir_jax.convert.save import save_pretrained
    from codir_jax.models import bert, heads
    from codir_jax.sharding.rules import unbox

    sizes = dataclasses.replace(
        bert.SIZES["tiny"], vocab_size=len(tokenizer), hidden_size=16, num_layers=2, intermediate_size=32,
        max_positions=64, pad_token_id=tokenizer.pad_token_id, pooling="mean",
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    shapes = unbox(heads.abstract_params(heads.build_model(sizes, head, num_labels)))
    flat = traverse_util.flatten_dict(shapes)
    params = traverse_util.unflatten_dict(
        {path: (rng.normal(0, 0.2, leaf.shape) + (path[-1] == "scale")).astype("f4") for path, leaf in flat.items()}
    )
    save_pretrained(
        folder,
        sizes,
        params,
        head=head,
        labels=Labels(label_names, is_regression=head == "classification" and num_labels == 1),
    )
    tokenizer.save_pretrained(str(folder))


def _sharded(source: Path, folder: Path) -> None:
    import shutil

    from safetensors.numpy import load_file, save_file

    shutil.copytree(source, folder)
    tensors = load_file(source / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for part, inside in parts.items():
        save_file({name: tensors[name] for name in inside}, folder / part, metadata={"format": "pt"})
    weight_map = {name: part for part, inside in parts.items() for name in inside}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def _tables(folder: Path) -> None:
    draw = random.Random(0)

    def text() -> str:
        return " ".join(draw.choice(WORDS) for _ in range(draw.randint(4, 9)))

    for name, seed in (("train", 0), ("dev", 1)):
        draw.seed(seed)
        texts = [f"{text()} {'warm' if i % 2 else 'old'}" for i in range(ROWS)]
        labels = [("neg", "pos")[i % 2] for i in range(ROWS)]
        scores = [round(draw.uniform(0, 5), 2) for _ in range(ROWS)]
        pairs = [text() for _ in range(ROWS)]
        both = list(zip(texts, labels, strict=True))
        _write(folder / f"{name}.tsv", ["sentence\tlabel", *(f"{a}\t{b}" for a, b in both)])
        _write(folder / f"{name}.csv", ["sentence,label", *(f'"{a}",{b}' for a, b in both)])
        _write(folder / f"{name}.jsonl", [json.dumps({"sentence": a, "label": b}) for a, b in both])
        _write(
            folder / f"{name}_scores.tsv",
            ["sentence\tlabel", *(f"{a}\t{b}" for a, b in zip(texts, scores, strict=True))],
        )
        _write(
            folder / f"{name}_pairs.tsv",
            ["sentence\tsecond\tlabel", *(f"{a}\t{c}\t{b}" for (a, b), c in zip(both, pairs, strict=True))],
        )
    draw.seed(2)
    _write(folder / "texts.txt", [text() for _ in range(8)])
    (folder / "books").mkdir()
    for i in range(3):
        _write(folder / "books" / f"{i}.txt", [text() for _ in range(40)])
    _encoded(folder)
    _write(folder / "books.jsonl", [json.dumps({"text": text()}) for _ in range(20)])


def _encoded(folder: Path) -> None:
    """The train table as others save it."""
    import gzip

    text = (folder / "train.tsv").read_text(encoding="utf-8") + "schön\tpos\n"
    for name, encoding in (("utf16", "utf-16-le"), ("utf16_bom", "utf-16"), ("latin1", "latin-1")):
        (folder / f"{name}.tsv").write_bytes(text.encode(encoding))
    packed = gzip.compress((folder / "train.tsv").read_bytes(), mtime=0)
    (folder / "train.tsv.gz").write_bytes(packed)
    (folder / "hidden.tsv").write_bytes(packed)
    (folder / "cut.tsv.gz").write_bytes(packed[: len(packed) // 2])
    many = b"sentence\tlabel\n" + b"the cats sleep\tneg\n" * ((72 << 20) // 19)
    (folder / "bomb.tsv.gz").write_bytes(gzip.compress(many, mtime=0))


def make_run(folder: Path) -> None:
    """Trains the run that the cases of `workdir.jsonl` copy: four steps, a checkpoint after two and after four."""
    from codir_jax.main import main

    sizes = ("data.demo_num_train=64", "data.demo_num_dev=32", "data.batch_size=16", "train.checkpoint_every_steps=2")
    settings = [f"--config.{size}" for size in (*sizes, "train.total_steps=4")]
    config = "--config=configs/codir/finetune_teacher.py:demo,tiny"
    assert main(["train", config, *settings, f"--workdir={folder}"]) == 0


def _write(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _saved_config(folder: Path) -> None:
    from codir_jax import config as config_lib

    sizes = [("data.demo_num_train", "64"), ("data.demo_num_dev", "32"), ("teacher.path", str(folder / "demo"))]
    config = config_lib.load("configs/codir/finetune_distill.py:tiny", sizes)
    (folder / "saved.json").write_text(config_lib.to_json(config), encoding="utf-8")
