"""The command line: `codir VERB ...`, the only place with flags."""

import argparse
import contextlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

VERBS = {
    "compress": "the whole job: fine-tune the teacher where needed, distil, evaluate, export, report",
    "train": "one stage from its config",
    "evaluate": "task metrics of a model on a split",
    "predict": "labels and probabilities of texts, or GLUE submission files",
    "export": "a Hugging Face folder with a parity verdict",
    "bench": "speed, memory and utilisation of training and inference on this machine",
    "plan": "memory, work, traffic and time of a run on a machine that need not be here",
}
EPILOGS = {
    "compress": """examples:
  codir compress --teacher=roberta-base --train=train.tsv --dev=dev.tsv --layers=6 --output=runs/mine
  codir compress --teacher=roberta-base --task=sst2 --layers=6 --output=runs/sst2
  codir compress --demo --compare=finetune,distill --output=runs/quickstart

Stopped, the same command goes on where it was. --config.KEY=VALUE changes the distillation,
--teacher_config.KEY=VALUE the fine-tuning of the teacher, e.g. --config.train.total_epochs=10.""",
    "train": """examples:
  codir train --config=configs/codir/finetune_distill.py:sst2 --config.teacher.path=runs/teacher --workdir=runs/student
  codir train --config=configs/codir/finetune_teacher.py:tiny --workdir=runs/tiny
  codir train --config=runs/student/config.json --workdir=runs/again

--config.KEY=VALUE overrides a field; a saved config.json repeats its run.

several processes: the same command on each, with the same --workdir on a shared disk. Slurm (srun), TPU pods, Open MPI
and indexed Kubernetes jobs (with jax[k8s]) are recognised; elsewhere each is told its place (or by CODIR_COORDINATOR,
CODIR_NUM_PROCESSES and CODIR_PROCESS_ID):
  codir train ... --coordinator=10.0.0.1:8476 --num_processes=2 --process_id=0     # on the host 10.0.0.1
  codir train ... --coordinator=10.0.0.1:8476 --num_processes=2 --process_id=1     # on the other

exit status: 0 done, 2 bad input, 3 loss or gradient not finite, 4 cannot write (disk full), 75 stopped by SIGTERM after
a checkpoint, 76 another process was lost or never came, 130 Ctrl-C after a checkpoint. After 75 and 76 start all
processes again: the same command goes on from the last checkpoint.""",
    "evaluate": """examples:
  codir evaluate --model=runs/student --split=dev
  codir evaluate --model=FOLDER --config=configs/codir/finetune_distill.py:rte --config.data.glue_dir=glue""",
    "predict": """examples:
  echo 'a charming and often affecting journey' | codir predict --model=runs/student
  codir predict --model=runs/student --input=texts.tsv --text_column=sentence --output=answers.jsonl
  codir predict --model=runs/student --glue_submission=submission --config=configs/codir/finetune_distill.py:cola""",
    "export": """example:
  codir export --model=runs/student --output=my-small-model""",
    "plan": """examples:
  codir plan --config=configs/codir/finetune_distill.py:mnli --teacher=roberta-base --devices=v5e-256 \\
      --config.data.batch_size=4096
  codir plan --config=configs/codir/finetune_distill.py:own --teacher=bert-base --examples=1000000 --length=64 \\
      --devices=h100-8

Nothing is allocated and no device is touched. Machines: v4, v5e, v5p, v6e, a100, h100, h200, cpu; the number counts
devices, for v4 and v5p cores, as in the names of slices. The teacher: a folder, or the name of sizes (tiny, minilm,
bert-base, bert-large, roberta-base, roberta-large), whose weights are not needed.""",
    "bench": """examples:
  codir bench --output=runs/bench
  codir bench --model=bert-base --fixed_length=128 --batch_size=32 --sections=finetune_live,inference
  codir bench --config=configs/codir/finetune_distill.py:cola --config.teacher.path=runs/teacher --epochs=4 \\
      --sections=finetune_cached --compare='python their_training.py'
  codir bench --sweep=length,negatives,devices --steps=5 --output=runs/sweep

Without --config: the embedded demo texts and a teacher of random weights, which run as fast as trained ones.
Sections: finetune_live, finetune_cached, evaluation, inference; on request collectives, what the devices send each
other in a step (on one machine with XLA_FLAGS=--xla_force_host_platform_device_count=8).""",
}


def parser() -> argparse.ArgumentParser:
    """The flags of every verb."""
    top = argparse.ArgumentParser(prog="codir", description="Compress BERT and RoBERTa by contrastive distillation.")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)
    add = {}
    for name, text in VERBS.items():
        add[name] = verbs.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=EPILOGS[name],
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
    compress = add["compress"]
    compress.add_argument("--output", required=True, help="folder of the job: stages, report, export")
    compress.add_argument("--teacher", default="", help="Hugging Face folder, workdir or hub name of the big model")
    compress.add_argument("--layers", type=int, default=0, help="layers of the student (default: half)")
    compress.add_argument("--train", default="", help="your .tsv, .csv or .jsonl with a header line")
    compress.add_argument("--dev", default="", help="likewise, to choose and report by")
    compress.add_argument("--test", default="", help="likewise, reported if it has labels")
    compress.add_argument("--unlabelled", default="", help="texts of your domain without labels (.txt, .tsv, ...)")
    compress.add_argument("--text_column", default="sentence", help="(default: %(default)s)")
    compress.add_argument("--text_pair_column", default="", help="second text, for tasks on pairs")
    compress.add_argument("--label_column", default="label", help="(default: %(default)s)")
    compress.add_argument("--regression", action="store_true", help="labels are numbers, not class names")
    compress.add_argument("--task", default="", help="a GLUE task instead of your files: cola, sst2, ...")
    compress.add_argument("--glue_dir", default="", help="GLUE in the official layout; empty: download")
    compress.add_argument("--demo", action="store_true", help="the embedded task and a small teacher from scratch")
    compress.add_argument("--compare", default="", help="methods to train as well: finetune, distill, l2, released")
    compress.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")

    train = add["train"]
    train.add_argument("--config", required=True, help="PATH.py[:ARG,ARG] or a saved config.json")
    train.add_argument("--workdir", required=True, help="folder of the run; an unfinished run in it is resumed")
    train.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 listens; the same on every process")
    train.add_argument("--num_processes", type=int, metavar="N", help="processes that share the run")
    train.add_argument("--process_id", type=int, metavar="I", help="which one this is, 0 .. N - 1")
    train.add_argument(
        "--connect_timeout", type=float, default=300, help="seconds to wait for the others (default: %(default)s)"
    )
    train.add_argument(
        "--heartbeat_timeout",
        type=float,
        default=100,
        help="seconds of silence after which another process counts as dead (default: %(default)s); one that was "
        "killed is noticed at once",
    )

    evaluate = add["evaluate"]
    evaluate.add_argument("--model", required=True, help="workdir, Hugging Face folder or hub name")
    evaluate.add_argument("--config", default="", help="names the data (default: the workdir's config.json)")
    evaluate.add_argument("--split", default="dev", help="(default: %(default)s)")

    predict = add["predict"]
    predict.add_argument("--model", required=True, help="workdir, Hugging Face folder or hub name")
    predict.add_argument("--input", default="-", help=".txt (one text a line), .tsv, .csv, .jsonl, or - (default)")
    predict.add_argument("--output", default="-", help="JSON lines (default: standard output)")
    predict.add_argument("--text_column", default="sentence", help="(default: %(default)s)")
    predict.add_argument("--text_pair_column", default="", help="second text, for models of pairs")
    predict.add_argument("--batch_size", type=int, default=32, help="(default: %(default)s)")
    predict.add_argument("--glue_submission", default="", help="folder for the leaderboard's TSV files of the task")
    predict.add_argument("--config", default="", help="names the GLUE task (default: the workdir's config.json)")

    export = add["export"]
    export.add_argument("--model", required=True, help="workdir or Hugging Face folder")
    export.add_argument("--output", required=True, help="folder to write")

    plan = add["plan"]
    plan.add_argument("--config", required=True, help="PATH.py[:ARG,ARG] or a saved config.json")
    plan.add_argument("--devices", required=True, help="MACHINE-NUMBER: v5e-256, v4-32, h100-8, cpu-8, ...")
    plan.add_argument("--hosts", type=int, default=0, help="(default: as many as usual hosts hold)")
    plan.add_argument("--teacher", default="", help="folder or name of sizes (default: teacher.path of the config)")
    plan.add_argument("--examples", type=int, default=0, help="train examples (default: those of the config's data)")
    plan.add_argument("--length", type=int, default=0, help="tokens of each (default: those of the config's data)")
    plan.add_argument("--utilisation", type=float, default=0.4, help="assumed share of the peak (default: 0.4)")
    plan.add_argument("--json", action="store_true", help="print one line of JSON instead of the table")

    bench = add["bench"]
    bench.add_argument("--sections", default="", help="comma separated (default: all four)")
    bench.add_argument("--config", default="", help="a distillation to measure instead of the demo")
    bench.add_argument("--model", default="", help="teacher of random weights: minilm (default), tiny, bert-base, ...")
    bench.add_argument("--steps", type=int, default=20, help="timed steps (default: %(default)s)")
    bench.add_argument("--epochs", type=int, default=0, help="time whole epochs, all but the first, instead of steps")
    bench.add_argument("--fixed_length", type=int, default=0, help="random texts of so many tokens, nothing padded")
    bench.add_argument("--batch_size", type=int, default=0, help="(default: as in the config; demo: 32)")
    bench.add_argument("--output", default="", help="folder for bench.json, or for the CSV and plots of a sweep")
    bench.add_argument("--json", action="store_true", help="print one line of JSON instead of the table")
    bench.add_argument("--compare", default="", help="shell command to run in turns with this one; see the README")
    bench.add_argument("--pairs", type=int, default=5, help="of --compare (default: %(default)s)")
    bench.add_argument(
        "--sweep", default="", help="length, batch, layers, negatives, bank_rows, devices: plots of cost"
    )
    return top


def split_overrides(arguments: Sequence[str]) -> tuple[list[str], dict[str, list[tuple[str, str]]]]:
    """(other arguments, {"config": [(key, text)], "teacher_config": [...]})."""
    rest, overrides = [], {"config": [], "teacher_config": []}
    arguments = list(arguments)
    while arguments:
        argument = arguments.pop(0)
        name, dot, key = argument.removeprefix("--").partition(".")
        if not (argument.startswith("--") and dot and name in overrides):
            rest.append(argument)
            continue
        key, equals, text = key.partition("=")
        if not equals:
            if not arguments:
                raise ValueError(f"{argument} has no value; write {argument}=VALUE")
            text = arguments.pop(0)
        overrides[name].append((key, text))
    return rest, overrides


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a verb; returns the exit status, see `codir train --help`."""
    from codir_jax import distributed, environment

    environment.set_defaults()
    try:
        status, reason = _run(arguments), ""
    except Exception as error:
        distributed.wait_for_verdict(error)
        status, reason = _told(error), str(error)
        if status is None:
            if not distributed.is_several():
                raise
            traceback.print_exc()
            status = 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        status, reason = 128 + signal.SIGINT, "Ctrl-C"
    distributed.leave(status, reason)
    return status


def _run(arguments: Sequence[str] | None) -> int:
    rest, overrides = split_overrides(sys.argv[1:] if arguments is None else arguments)
    flags = parser().parse_args(rest)
    for name, given in overrides.items():
        allowed = {
            "config": ("compress", "train", "evaluate", "predict", "bench", "plan"),
            "teacher_config": ("compress",),
        }[name]
        if given and flags.verb not in allowed:
            raise ValueError(f"--{name}.{given[0][0]}: `codir {flags.verb}` takes no --{name}")
    if arguments is None:
        from codir_jax import environment

        environment.use_huge_pages()
    return {
        "compress": _compress,
        "train": _train,
        "evaluate": _evaluate,
        "predict": _predict,
        "export": _export,
        "bench": _bench,
        "plan": _plan,
    }[flags.verb](flags, overrides)


def _told(error: Exception) -> int | None:
    """The exit status of an error that is told in a sentence; None for any other."""
    if isinstance(error, BrokenPipeError):  # `codir predict ... | head`
        sys.stderr.close()
        return 0
    if (stopped_by := getattr(error, "signal_number", None)) is not None:
        from codir_jax import distributed

        print(f"{error}; the same command goes on from there", file=sys.stderr)
        return distributed.PREEMPTED if stopped_by == signal.SIGTERM else 128 + stopped_by
    statuses = ((ValueError, 2), (FileNotFoundError, 2), (FloatingPointError, 3), (OSError, 4))
    status = next((status for kind, status in statuses if isinstance(error, kind)), None)
    if status is not None:
        hint = "; make room, then the same command goes on" if status == 4 else ""
        print(f"error: {error}{hint}", file=sys.stderr)
    return status


def _train(flags, overrides) -> int:
    from codir_jax import config as config_lib
    from codir_jax import distributed

    config = config_lib.load(flags.config, overrides["config"])
    with _preemptible():
        if place := distributed.place_of(vars(flags)):
            timeouts = {"connect_timeout": flags.connect_timeout, "heartbeat_timeout": flags.heartbeat_timeout}
            distributed.start(place, **timeouts)
        from codir_jax import run

        results = run.run(config, flags.workdir)
    if distributed.process_id() != 0:
        return 0
    if results["dev"]:
        scores = "  ".join(f"{k} {v:.4f}" for k, v in results["dev"].items())
        print(f"best dev, step {results['best_step']}: {scores}")
    print(f"written: {flags.workdir}/best, {flags.workdir}/results.json")
    return 0


@contextlib.contextmanager
def _preemptible():
    """SIGTERM before the first step or after the last one ends the run like one between them: there is more to do."""
    from codir_jax import distributed

    try:
        previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(distributed.PREEMPTED))
    except ValueError:  # not the main thread: the caller owns the signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _compress(flags, overrides) -> int:
    from codir_jax.compress import compress

    compress(
        flags.teacher,
        flags.train,
        flags.dev,
        output=flags.output,
        layers=flags.layers,
        test=flags.test,
        unlabelled=flags.unlabelled,
        text_column=flags.text_column,
        text_pair_column=flags.text_pair_column,
        label_column=flags.label_column,
        regression=flags.regression,
        task=flags.task,
        glue_dir=flags.glue_dir,
        demo=flags.demo,
        compare=tuple(name for name in flags.compare.split(",") if name),
        seed=flags.seed,
        overrides=overrides["config"],
        teacher_overrides=overrides["teacher_config"],
    )
    return 0


def _data_config(flags, overrides):
    """The config that names the data: --config, else the one saved in the model's workdir."""
    from codir_jax import config as config_lib

    saved = Path(flags.model) / "config.json"
    if flags.config:
        return config_lib.load(flags.config, overrides["config"])
    if (Path(flags.model) / "best").is_dir() and saved.exists():
        return config_lib.load(str(saved), overrides["config"])
    raise ValueError("--config is needed to name the data, e.g. --config=configs/codir/finetune_distill.py:cola")


def _evaluate(flags, overrides) -> int:
    from codir_jax import predictor

    config = _data_config(flags, overrides)
    model = predictor.load(flags.model, batch_size=config.data.eval_batch_size)
    scores = model.evaluate(config, flags.split)
    print(json.dumps({"model": flags.model, "task": config.data.name, "split": flags.split, **scores}))
    return 0


def _predict(flags, overrides) -> int:
    from codir_jax import predictor

    model = predictor.load(flags.model, batch_size=flags.batch_size)
    if flags.glue_submission:
        from codir_jax.evaluate import glue_submission

        config = _data_config(flags, overrides)
        data = model.read_data(config)
        for path in glue_submission.write(flags.glue_submission, config.data.name, data, model.logits):
            print(f"written: {path}")
        return 0
    to_screen = flags.output == "-"
    with contextlib.nullcontext(sys.stdout) if to_screen else open(flags.output, "w", encoding="utf-8") as file:
        for answer in predictor.predict_lines(model, _read_texts(flags)):
            file.write(json.dumps(answer, ensure_ascii=False) + "\n")
    return 0


def _read_texts(flags):
    """Yields (text, second text or None) of each line of standard input or a file."""
    if flags.input != "-" and not flags.input.endswith(".txt"):
        from codir_jax.data import delimited
        from codir_jax.data.batch import DataError

        columns = [c for c in (flags.text_column, flags.text_pair_column) if c]
        problems: list[str] = []
        table = delimited.read_table(Path(flags.input), columns, problems)
        if problems:
            raise DataError(problems)
        seconds = table.columns[columns[1]] if len(columns) > 1 else [None] * len(table.lines)
        yield from zip(table.columns[columns[0]], seconds, strict=True)
        return
    if flags.text_pair_column:
        raise ValueError("pairs need --input with columns: a .tsv, .csv or .jsonl file")
    if flags.input != "-" and not Path(flags.input).is_file():
        raise FileNotFoundError(f"--input {flags.input} does not exist")
    with contextlib.nullcontext(sys.stdin) if flags.input == "-" else open(flags.input, encoding="utf-8") as file:
        yield from ((line.rstrip("\n"), None) for line in file if line.strip())


def _export(flags, overrides) -> int:
    del overrides
    from codir_jax.exporter import export_model

    print(export_model(flags.model, flags.output))
    return 0


def _bench(flags, overrides) -> int:
    started = time.perf_counter()
    from codir_jax.benchmark import command

    sections = tuple(name for name in flags.sections.split(",") if name)
    command.run(
        command.Request(
            **({"sections": sections} if sections else {}),
            config=flags.config,
            overrides=tuple(overrides["config"]),
            model=flags.model,
            steps=flags.steps,
            epochs=flags.epochs,
            fixed_length=flags.fixed_length,
            batch_size=flags.batch_size,
        ),
        started=started,
        output=flags.output,
        as_json=flags.json,
        theirs=flags.compare,
        num_pairs=flags.pairs,
        sweeps=tuple(name for name in flags.sweep.split(",") if name),
    )
    return 0


def _plan(flags, overrides) -> int:
    # What is planned for need not be here, and what is here is left alone.
    os.environ["JAX_PLATFORMS"] = "cpu"
    from codir_jax.plan import command

    print(
        command.run(
            flags.config,
            overrides["config"],
            devices=flags.devices,
            hosts=flags.hosts,
            teacher=flags.teacher,
            num_examples=flags.examples,
            length=flags.length,
            utilisation=flags.utilisation,
            as_json=flags.json,
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
