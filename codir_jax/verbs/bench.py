"""`codir bench`: what this machine does with the parts of a run."""

import argparse
import dataclasses
import time

from codir_jax.verbs.flag_types import names

HELP = "speed, memory and utilisation of training and inference on this machine"
EXAMPLES = """examples:
  codir bench --output=runs/bench
  codir bench --model=bert-base --fixed_length=128 --batch_size=32 --sections=train_live,inference
  codir bench --config=configs/codir/finetune_distill.py:cola --config.teacher.path=runs/teacher --epochs=4 \\
      --sections=train_cached --compare='python their_training.py'
  codir bench --sweep=length,negatives,devices --steps=5 --output=runs/sweep

Without --config: the embedded demo texts and a teacher of random weights, which run as fast as trained ones.
Sections: train_live, train_cached, pretraining (CoDIR of masked language models of these sizes, live teacher, on
random chunks), evaluation, inference; on request collectives, what the devices send each other in a step (on one
machine with XLA_FLAGS=--xla_force_host_platform_device_count=8), pytorch_training and pytorch_inference, in turns with
PyTorch, which must be installed (--epochs, default 4, and --steps are the turns). Alone: pytorch_language_model, the
same of an LSTM of 2 x 200 on random tokens, and pytorch_sentence_encoder, a trainer of sentence-transformers and its
vectors (without --config: MiniLM's sizes, random weights, embedded triplets)."""
OVERRIDES = ("config",)


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sections", type=names, default=argparse.SUPPRESS, help="comma separated (default: all five)")
    parser.add_argument("--config", default="", help="a distillation to measure instead of the demo")
    parser.add_argument("--model", default="", help="teacher of random weights: minilm (default), tiny, bert-base, ...")
    parser.add_argument("--steps", type=int, default=20, help="timed steps (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=0, help="time whole epochs, all but the first, instead of steps")
    parser.add_argument("--fixed_length", type=int, default=0, help="random texts of so many tokens, nothing padded")
    parser.add_argument("--batch_size", type=int, default=0, help="(default: as in the config; demo: 32)")
    parser.add_argument("--output", default="", help="folder for bench.json, or for the CSV and plots of a sweep")
    parser.add_argument(
        "--json", dest="as_json", action="store_true", help="print one line of JSON instead of the table"
    )
    parser.add_argument(
        "--compare",
        dest="theirs",
        metavar="COMMAND",
        default="",
        help="shell command to run in turns with this one; see codir_jax/benchmark/README.md",
    )
    parser.add_argument(
        "--pairs", dest="num_pairs", metavar="N", type=int, default=5, help="of --compare (default: %(default)s)"
    )
    parser.add_argument(
        "--sweep",
        dest="sweeps",
        metavar="NAMES",
        type=names,
        default=(),
        help="length, batch, layers, negatives, bank_rows, devices: plots of cost",
    )


def run(overrides, **flags) -> int:
    """The flags are the fields of a `Request` and the other arguments of the command, by name."""
    started = time.perf_counter()
    from codir_jax.benchmark import command

    fields = {field.name for field in dataclasses.fields(command.Request)} & set(flags)
    request = command.Request(**{name: flags.pop(name) for name in fields}, overrides=tuple(overrides["config"]))
    command.run(request, started=started, **flags)
    return 0
