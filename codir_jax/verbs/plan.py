"""`codir plan`: what a run needs on a machine that you need not have."""

import argparse

from codir_jax.verbs import flag_types

HELP = "memory, work, traffic and time of a run on a machine that you need not have"
EXAMPLES = """examples:
  codir plan --config=configs/codir/finetune_distill.py:mnli --teacher=roberta-base --devices=v5e-256 \\
      --config.data.batch_size=4096
  codir plan --config=configs/codir/finetune_distill.py:own --teacher=bert-base --examples=1000000 --length=64 \\
      --devices=h100-8
  codir plan --config=configs/codir/finetune_distill.py:mnli --teacher=roberta-base --devices=v5e-8 --length=64 \\
      --examples=1000000 --config.data.batch_size=512 --compile

Nothing is allocated and no device is touched. Machines: v4, v5e, v5p, v6e, a100, h100, h200, cpu; the number counts
devices, for v4 and v5p cores, as in the names of slices. The teacher: a folder, or the name of a model (bert-base,
roberta-large, minilm, deberta-v3-base, ...; a wrong one lists all), of which the sizes are enough.

--compile takes minutes: the compiler of the machine makes the real step, here and without the machine, and what it
tells stands beside the plan. For TPUs it needs codir-jax[aot-tpu], for GPUs codir-jax[aot-gpu]."""
OVERRIDES = ("config",)


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", required=True, help=flag_types.CONFIG)
    parser.add_argument("--devices", required=True, help="MACHINE-NUMBER: v5e-256, v4-32, h100-8, cpu-8, ...")
    parser.add_argument("--hosts", type=int, default=0, help="(default: as many as usual hosts hold)")
    parser.add_argument("--teacher", default="", help="folder or name of sizes (default: teacher.path of the config)")
    parser.add_argument(
        "--examples",
        dest="num_examples",
        metavar="N",
        type=int,
        default=0,
        help="train examples (default: those of the config's data)",
    )
    parser.add_argument("--length", type=int, default=0, help="tokens of each (default: those of the config's data)")
    parser.add_argument("--utilisation", type=float, default=0.4, help="assumed share of the peak (default: 0.4)")
    parser.add_argument(
        "--compile",
        dest="compiles",
        action="store_true",
        help="also compile the step for the machine, and compare",
    )
    parser.add_argument(
        "--json", dest="as_json", action="store_true", help="print one line of JSON instead of the table"
    )


def run(overrides, *, config: str, **flags) -> int:
    """Prints the plan; the flags are the arguments of the command, by name."""
    from codir_jax.plan import machines
    from codir_jax.processes import environment

    # The machine of the plan may be another one, and the devices of this one are left alone.
    on = machines.parse(flags["devices"], flags["hosts"])
    environment.set_for_compilers(on.count if flags["compiles"] and on.is_cpu else 0)
    from codir_jax.plan import command

    print(command.run(config, overrides["config"], **flags))
    return 0
