"""The whole job on running text: a masked language model that is too big becomes a small one, for any task later."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codir_jax import config as config_lib
from codir_jax.convert.folder import model_folder
from codir_jax.jobs.compress import claim, print_results
from codir_jax.processes.console import say
from codir_jax.processes.user_error import UserError
from codir_jax.stage import config as stage_config
from codir_jax.stage import workdir

METHODS = ("masked_lm", "distill", "l2", "codir")
TITLES = {
    "teacher": "teacher",
    "masked_lm": "student, masked LM only",
    "distill": "student, + soft targets",
    "l2": "student, + soft targets + L2",
    "codir": "student, CoDIR",
}
# Of a tokenizer trained here: what hundred novels fill.
VOCAB_SIZE = 8192


def compress_corpus(
    text: str,
    *,
    output: str,
    teacher: str = "",
    layers: int = 0,
    compare: Sequence[str] = (),
    seed: int = 0,
    overrides: Sequence[tuple[str, str]] = (),
    teacher_overrides: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """Compresses `teacher` on `text` and returns what `results.json` holds; stopped, the same call goes on.

    Args:
      text: `data.sources`: files, folders, globs, comma separated.
      output: folder of the job: tokenizer/, teacher/, one folder a student, export/, report.md, results.json.
      teacher: masked language model: Hugging Face folder, workdir or hub name. Without a masked-LM head it first goes
        on pre-training on the text; empty: a tokenizer and a small teacher are trained on the text first.
      layers: of the student; 0 is half of the teacher's.
      compare: baselines to train from the same start: masked_lm, distill, l2.
      seed: of every stage.
      overrides, teacher_overrides: (dotted config key, text) of the distillation and of the teacher's pre-training;
        those of `data` hold for both, lest the teacher be trained on what the student is judged by.

    Raises:
      UserError: before anything is trained.
    """
    unknown = [name for name in compare if name not in METHODS[:-1]]
    if unknown:
        raise UserError(f"--compare has {unknown}; known with --text: {', '.join(METHODS[:-1])}")
    folder = Path(output)
    tokenizer, pretrained = folder / "tokenizer", folder / "teacher"
    is_ready = bool(teacher) and _has_head(teacher)
    masked_lm = teacher if is_ready else str(pretrained)
    start = [("student.init", "pretrained"), ("student.path", teacher), ("student.num_layers", "0")]
    if not teacher:
        start = [("tokenizer_path", str(tokenizer))]
    shared = [("seed", str(seed)), ("data.sources", text)]
    of_corpus = [(key, value) for key, value in overrides if key.startswith("data.")]
    teacher_config = config_lib.load(
        "configs/codir/pretrain_teacher.py:small",
        [*shared, *start, *of_corpus, *teacher_overrides],
    )
    student = [*shared, ("teacher.path", masked_lm), ("student.num_layers", str(layers))]
    if not is_ready:  # that ours is weak is told, and there is a student all the same
        student.append(("teacher.allow_weak", "True"))
    student += overrides
    configs = {
        method: config_lib.load(f"configs/codir/pretrain_distill.py:small,{method}", student)
        for method in METHODS
        if method in (*compare, "codir")
    }
    for config in (*configs.values(), teacher_config):
        stage_config.check(config)

    if (done := claim(folder, teacher, teacher_config, configs)) is not None:
        return done
    if not teacher:
        _make_tokenizer(teacher_config, tokenizer)
    if not is_ready:
        from codir_jax.stage import run

        say(f"== pre-training the teacher -> {pretrained}")
        run.run(teacher_config, pretrained)
    return _run(folder, masked_lm, configs)


def _has_head(teacher: str) -> bool:
    """Whether it is a masked language model."""
    from codir_jax.convert import huggingface

    return huggingface.load_pretrained(model_folder(teacher, "--teacher"), head="masked_lm").has_head


def _make_tokenizer(config, tokenizer: Path) -> None:
    from codir_jax.data.corpus import vocabulary
    from codir_jax.data.tokenizer import save_tokenizer

    if not (tokenizer / "tokenizer.json").exists():
        say(f"== training a tokenizer -> {tokenizer}")
        aside = tokenizer.with_name("tokenizer.part")
        save_tokenizer(vocabulary.train("wordpiece", config.data, VOCAB_SIZE), aside)
        workdir.replace_folder(aside, tokenizer)


def _run(folder: Path, teacher: str, configs) -> dict[str, Any]:
    from codir_jax.jobs import export as exporter
    from codir_jax.jobs import report
    from codir_jax.stage import run

    stages = {}
    for method, config in configs.items():
        say(f"== {TITLES[method]} -> {folder / method}")
        stages[method] = run.run(config, folder / method)
    say("== measuring cost, exporting")
    models = {"teacher": model_folder(teacher, "teacher"), **{m: str(folder / m / "best") for m in configs}}
    scores = {"teacher": stages["codir"]["teacher_dev"], **{m: stage["dev"] for m, stage in stages.items()}}
    costs = measure(models, configs["codir"].data.max_length)
    results = {
        "task": configs["codir"].data.sources,
        "primary_metric": stages["codir"]["primary_metric"],
        "main": "codir",
        "models": {
            name: {"title": TITLES[name], "folder": models[name], "dev": scores[name], **costs[name]} for name in models
        },
        "export": str(folder / "export"),
        "parity": exporter.export_model(str(folder / "codir"), str(folder / "export")),
        "seconds": sum(stage["seconds"] for stage in stages.values()),
        "seed": configs["codir"].seed,
        **workdir.environment(),
    }
    report.write(folder, results)
    workdir.write_json(folder / "results.json", results)
    print_results(results, folder)
    return results


def measure(models: dict[str, str], seq_len: int) -> dict[str, dict[str, Any]]:
    """Parameters, bytes, layers and latency in ms of each folder's encoder, which is what a later task runs."""
    from codir_jax.convert import huggingface
    from codir_jax.evaluation import cost
    from codir_jax.models.transformer import Encoder

    loaded = {name: huggingface.load_pretrained(path, head="masked_lm") for name, path in models.items()}

    def forward(config):
        encoder = Encoder(config)
        return lambda params, *inputs: encoder.apply({"params": params["encoder"]}, *inputs).hidden_states[-1]

    timed = {name: (forward(source.config), source.params) for name, source in loaded.items()}
    latency = cost.latency(timed, seq_len=seq_len)
    return {
        name: {
            "parameters": cost.count_parameters(source.params),
            "bytes": cost.size_bytes(source.params),
            "num_layers": source.config.num_layers,
            "latency": latency[name],
            "speed_up": latency["teacher"]["batch_32_p50_ms"] / latency[name]["batch_32_p50_ms"],
        }
        for name, source in loaded.items()
    }
