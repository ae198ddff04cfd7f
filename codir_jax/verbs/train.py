"""`codir train`: one stage, in one process or several."""

import argparse

from codir_jax.verbs import flag_types
from codir_jax.verbs.flag_types import CONFIG

HELP = "one stage from its config"
EXAMPLES = """examples:
  codir train --config=configs/codir/finetune_distill.py:sst2 --config.teacher.path=runs/teacher --workdir=runs/student
  codir train --config=configs/codir/finetune_teacher.py:tiny --workdir=runs/tiny
  codir train --config=runs/student/config.json --workdir=runs/again

--config.KEY=VALUE overrides a field; a saved config.json repeats its run.

several processes: the same command on each, with the same --workdir on a shared disk. Slurm (srun), TPU pods, Open MPI
and indexed Kubernetes jobs (with jax[k8s]) are recognised; elsewhere each is told its place (or by CODIR_COORDINATOR,
CODIR_NUM_PROCESSES and CODIR_PROCESS_ID):
  codir train ... --coordinator=10.0.0.1:8476 --num_processes=2 --process_id=0     # on the host 10.0.0.1
  codir train ... --coordinator=10.0.0.1:8476 --num_processes=2 --process_id=1     # on the other

The workdir is new, empty, or holds the run already; a folder with anything else in it is refused.

exit status: 0 done, 2 bad input, 3 loss or gradient not finite, 4 cannot write (disk full), 75 stopped by SIGTERM after
a checkpoint, 76 another process was lost or never came, 130 Ctrl-C after a checkpoint. After 75 and 76 start all
processes again: the same command goes on from the last checkpoint."""
OVERRIDES = ("config",)


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", required=True, help=CONFIG)
    parser.add_argument("--workdir", required=True, help="folder of the run; an unfinished run in it is resumed")
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 listens; the same on every process")
    parser.add_argument("--num_processes", type=int, metavar="N", help="processes that share the run")
    parser.add_argument("--process_id", type=int, metavar="I", help="which one this is, 0 .. N - 1")
    parser.add_argument(
        "--connect_timeout",
        type=flag_types.seconds,
        default=300,
        help="seconds to wait for the others (default: %(default)s)",
    )
    parser.add_argument(
        "--heartbeat_timeout",
        type=flag_types.seconds,
        default=100,
        help="seconds of silence after which another process counts as dead (default: %(default)s); one that was "
        "killed is noticed at once",
    )


def run(overrides, *, config: str, workdir: str, connect_timeout: float, heartbeat_timeout: float, **place) -> int:
    """Joins the other processes where there are any, and trains."""
    from codir_jax.processes import claims, distributed

    claims.check(workdir, claims.RUN, "--workdir")
    from codir_jax.stage import config as stage_config

    config = stage_config.load(config, overrides["config"])
    if found := distributed.place_of(place):
        distributed.start(found, connect_timeout=connect_timeout, heartbeat_timeout=heartbeat_timeout)
    from codir_jax.jobs.train import train

    results = train(config, workdir)
    if distributed.process_id() != 0:
        return 0
    if results["dev"]:
        scores = "  ".join(f"{k} {v:.4f}" for k, v in results["dev"].items())
        print(f"best dev, step {results['best_step']}: {scores}")
    print(f"written: {workdir}/best, {workdir}/results.json")
    print(f"curves: pip install tensorboard; tensorboard --logdir={workdir}")
    return 0
