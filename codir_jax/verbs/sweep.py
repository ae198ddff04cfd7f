"""`codir sweep`: arms x tasks x seeds, one table."""

import argparse
import sys

from codir_jax.verbs.flag_types import names, numbers

HELP = "many runs, one table: arms x tasks x seeds, equal searches, differences paired by seed"
EXAMPLES = """examples:
  codir sweep --output=runs/sweep --tasks=rte,mrpc --seeds=0,1,2 --baseline=distill \\
      --config.teacher.path='runs/teacher_{task}' \\
      --arm='distill configs/codir/finetune_distill.py:{task},distill --search optimizer.learning_rate=1e-4,3e-4' \\
      --arm='codir configs/codir/finetune_distill.py:{task},paper --search objective.contrastive_weight=0.02,0.1'
  codir sweep --output=runs/sweep --tasks=rte --table_only \\
      --arm='plain configs/codir/finetune_distill.py:{task},finetune'

An arm is `NAME CONFIG [KEY=VALUE ...] [--search KEY=V1,V2 ...]`; {task} is filled in, in values also {seed}. --search
lists the trials of an arm (the product of its lists); every arm must have the same number of trials, which are compared
on the search seeds (not among the reported ones) by the mean of the primary dev metric, separately for every task.
--config.KEY=VALUE holds for every arm; an arm's own values come after it.

Each run is a workdir under --output: what is finished is not run again, what was stopped goes on. One worker a device,
or per two cores on a CPU; on a TPU host give --workers=1. A failed run is named and leaves its cell open; the exit
status is then 1. A trial that diverged has lost; a search that is unfinished for another reason has no winner, and the
cell waits until the same command has finished it."""
OVERRIDES = ("config",)


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", required=True, help="folder of all runs, table.md and table.json")
    parser.add_argument("--tasks", type=names, required=True, help="comma separated, put in the place of {task}")
    parser.add_argument("--arm", dest="arms", action="append", required=True, help="repeat for every arm")
    parser.add_argument("--seeds", type=numbers, default=(0, 1, 2, 3, 4), help="reported seeds (default: 0,1,2,3,4)")
    parser.add_argument("--search_seeds", type=numbers, default=(100,), help="seeds of the search (default: 100)")
    parser.add_argument("--baseline", default="", help="arm that the others are paired with (default: the first)")
    parser.add_argument("--metric", default="", help="dev metric to report (default: the primary one)")
    parser.add_argument(
        "--workers",
        dest="num_workers",
        type=int,
        default=0,
        help="runs at once (default: one a device, or per two cores)",
    )
    parser.add_argument("--table_only", action="store_true", help="the table of what is finished; nothing is run")


def run(overrides, **flags) -> int:
    """Prints the table; the flags are the arguments of the function of the same name."""
    from codir_jax.processes import claims

    claims.check(flags["output"], claims.SWEEP, "--output")
    from codir_jax.jobs import sweep_table
    from codir_jax.jobs.sweep import sweep

    table, failures = sweep(**flags, overrides=overrides["config"])
    print(sweep_table.markdown(table, flags["baseline"] or next(iter(next(iter(table.values()))))))
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if failures else 0
