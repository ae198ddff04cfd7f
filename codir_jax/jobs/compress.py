"""The whole job: a teacher that fits the task, students, evaluation, costs, export, one table and a short report."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codir_jax import config as config_lib
from codir_jax.convert.folder import model_folder
from codir_jax.data.sets import glue
from codir_jax.processes.console import say
from codir_jax.processes.user_error import UserError
from codir_jax.stage import config as stage_config
from codir_jax.stage import workdir
from codir_jax.stage.assembled import make_tokenizer
from codir_jax.tasks.classification import has_classes, read_data

METHODS = ("finetune", "distill", "l2", "released", "paper")
TITLES = {
    "teacher": "teacher",
    "finetune": "student, fine-tuning",
    "distill": "student, soft targets",
    "l2": "student, soft targets + L2",
    "released": "student, CoDIR (released)",
    "paper": "student, CoDIR",
}


def compress(
    teacher: str = "",
    train: str = "",
    dev: str = "",
    *,
    output: str,
    layers: int = 0,
    test: str = "",
    unlabelled: str = "",
    text_column: str = "sentence",
    text_pair_column: str = "",
    label_column: str = "label",
    regression: bool = False,
    task: str = "",
    glue_dir: str = "",
    demo: bool = False,
    compare: Sequence[str] = (),
    seed: int = 0,
    overrides: Sequence[tuple[str, str]] = (),
    teacher_overrides: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """Compresses `teacher` on a task and returns what `results.json` holds; stopped, the same call goes on.

    Args:
      teacher: Hugging Face folder, workdir or hub name; it is fine-tuned first where it has no head for the labels.
      train, dev, test, unlabelled: own files, or a GLUE `task` (read from `glue_dir`, else downloaded), or `demo`.
      output: folder of the job: teacher/, one folder a student, export/, report.md, report.png, results.json.
      layers: of the student; 0 is half of the teacher's.
      text_column, text_pair_column, label_column, regression: of own files.
      compare: baselines to train from the same start: finetune, distill, l2, released.
      seed: of every stage.
      overrides, teacher_overrides: (dotted config key, text) of the distillation and of the teacher's fine-tuning.

    Raises:
      UserError: before anything is trained.
    """
    unknown = [name for name in compare if name not in METHODS[:-1]]
    if unknown:
        raise UserError(f"--compare has {unknown}; known: {', '.join(METHODS[:-1])}")
    source = _source(demo, task, train, dev)
    if not demo and not teacher:
        raise UserError("--teacher is empty; give a Hugging Face folder, a workdir or a hub name such as roberta-base")
    folder = Path(output)
    data = {
        "train_path": train,
        "dev_path": dev,
        "test_path": test,
        "unlabelled_path": unlabelled,
        "text_column": text_column,
        "text_pair_column": text_pair_column,
        "label_column": label_column,
        "is_regression": str(regression),
        "glue_dir": glue_dir,
    }
    shared = [("seed", str(seed)), *((f"data.{key}", value) for key, value in data.items())]
    configs = {
        method: config_lib.load(
            f"configs/codir/finetune_distill.py:{source},{method}",
            [*shared, ("teacher.path", teacher or "pending"), ("student.num_layers", str(layers)), *overrides],
        )
        for method in METHODS
        if method in (*compare, "paper")
    }
    teacher_config = config_lib.load(
        f"configs/codir/finetune_teacher.py:{source}",
        [*shared, *([] if demo else [("student.path", teacher)]), *teacher_overrides],
    )
    for config in (*configs.values(), teacher_config):
        stage_config.check(config)

    if (done := claim(folder, teacher, teacher_config, configs)) is not None:
        return done
    return _run(folder, teacher, teacher_config, configs)


def _source(demo: bool, task: str, train: str, dev: str) -> str:
    """The config argument of the one source of data that was given."""
    given = [name for name, is_given in (("--demo", demo), ("--task", task), ("--train", train)) if is_given]
    if len(given) != 1:
        raise UserError(f"give one of --train (with --dev), --task or --demo, got {', '.join(given) or 'none'}")
    if train and not dev:
        raise UserError("--dev is empty; the student is chosen and reported by a dev file")
    if task and task not in glue.TRAINABLE_TASKS:
        raise UserError(f"--task={task}; known: {', '.join(glue.TRAINABLE_TASKS)}")
    return "demo" if demo else task or "own"


def claim(folder: Path, teacher: str, teacher_config, configs) -> dict[str, Any] | None:
    """Makes the job's folder; where the same job is finished, its results, printed again.

    Raises:
      UserError: the folder holds a job with other settings.
    """
    settings = {"teacher": teacher, "teacher_config": teacher_config.to_dict()}
    settings["configs"] = {method: config.to_dict() for method, config in configs.items()}
    settings = json.loads(json.dumps(settings))
    saved = folder / "job.json"
    has_progress = any(workdir.has_progress(inner) for inner in (folder, *folder.glob("*")))
    before = json.loads(saved.read_text(encoding="utf-8")) if saved.exists() else settings
    if has_progress and _what_counts(before) != _what_counts(settings):
        raise UserError(f"{folder} holds a job with other settings (see {saved}); choose another --output")
    folder.mkdir(parents=True, exist_ok=True)
    saved.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    results = folder / "results.json"
    if not results.exists():
        return None
    say(f"{folder}: already finished; remove the folder to run it again\n")
    done = json.loads(results.read_text(encoding="utf-8"))
    print_results(done, folder)
    return done


def _what_counts(settings: dict[str, Any]) -> dict[str, Any]:
    """Without teacher.allow_weak: who sets it because the teacher was refused goes on with the same job."""
    counted = json.loads(json.dumps(settings))
    for config in counted["configs"].values():
        del config["teacher"]["allow_weak"]
    return counted


def _run(folder: Path, teacher: str, teacher_config, configs) -> dict[str, Any]:
    from codir_jax.jobs import export as exporter
    from codir_jax.jobs import report
    from codir_jax.stage import run

    if not (teacher and _fits(teacher, configs["paper"])):
        say(f"== fine-tuning the teacher -> {folder / 'teacher'}")
        run.run(teacher_config, folder / "teacher")
        teacher = str(folder / "teacher")
    stages = {}
    for method, config in configs.items():
        config.teacher.path = teacher
        config.teacher.cache_dir = config.teacher.cache_dir or str(folder / "teacher_cache")
        say(f"== {TITLES[method]} -> {folder / method}")
        stages[method] = run.run(config, folder / method)

    say("== measuring cost, exporting")
    models = {"teacher": model_folder(teacher, "teacher"), **{m: str(folder / m / "best") for m in configs}}
    rows = measure(models, configs["paper"])
    verdict = exporter.export_model(str(folder / "paper"), str(folder / "export"))
    results = {
        "task": stages["paper"]["task"],
        "primary_metric": stages["paper"]["primary_metric"],
        "main": "paper",
        "models": {name: {"title": TITLES[name], "folder": models[name], **row} for name, row in rows.items()},
        "export": str(folder / "export"),
        "parity": verdict,
        "seconds": sum(stage["seconds"] for stage in stages.values()) + _seconds(folder / "teacher"),
        "seed": configs["paper"].seed,
        **workdir.environment(),
    }
    report.write(folder, results)
    workdir.write_json(folder / "results.json", results)
    print_results(results, folder)
    return results


def _seconds(stage: Path) -> float:
    path = stage / "results.json"
    return json.loads(path.read_text(encoding="utf-8"))["seconds"] if path.exists() else 0.0


def _fits(teacher: str, config) -> bool:
    """Whether the teacher already has a trained head for the classes of the data."""
    from codir_jax.convert import huggingface

    probe = config.copy_and_resolve_references()
    probe.unlock()
    probe.teacher.path = teacher
    info = read_data(probe, make_tokenizer(probe)).info
    source = huggingface.load_pretrained(model_folder(teacher, "--teacher"), num_labels=info.num_classes)
    return source.has_head and has_classes(source, info) and source.is_regression == info.is_regression


def measure(models: dict[str, str], config) -> dict[str, dict[str, Any]]:
    """Scores and costs of each model folder: dev and (labelled) test metrics, parameters, bytes, latency in ms."""
    from codir_jax.evaluation import cost, runner
    from codir_jax.predict import classifier as predictor

    loaded = {name: predictor.load(path, batch_size=config.data.eval_batch_size) for name, path in models.items()}
    rows: dict[str, dict[str, Any]] = {}
    data = loaded["teacher"].read_data(config)
    info = data.info
    for name, model in loaded.items():
        row: dict[str, Any] = {}
        for split, examples in data.splits.items():
            if split != "train" and examples.is_labelled.all():
                logits = model.logits(examples)
                row[split] = runner.score(logits, examples.labels, info.metrics, info.is_regression)
        row["parameters"] = cost.count_parameters(model.source.params)
        row["bytes"] = cost.size_bytes(model.source.params)
        rows[name] = row
    length = int(sorted(data.splits["dev"].lengths)[len(data.splits["dev"]) // 2])
    timed = cost.latency({name: model.timed() for name, model in loaded.items()}, seq_len=length)
    for name, times in timed.items():
        rows[name]["latency"] = times
    for name, model in loaded.items():
        rows[name]["flops"] = cost.model_flops(model.source.config, length, cost.Outputs(info.num_classes))
        rows[name]["num_layers"] = model.source.config.num_layers
        rows[name]["speed_up"] = (
            rows["teacher"]["latency"]["batch_32_p50_ms"] / rows[name]["latency"]["batch_32_p50_ms"]
        )
    return rows


def print_results(results: dict[str, Any], folder: Path) -> None:
    """Prints the table and where things lie."""
    from codir_jax.jobs.report import table

    print(table(results))
    print(f"{results['parity']}\nreport: {folder / 'report.md'}   export: {results['export']}", flush=True)
