"""A SLURM job over one or more nodes, one process a GPU (or a node without GPUs).

    python launch/slurm.py --nodes=2 --gpus_per_node=8 --time=04:00:00 --partition=gpu \\
        --setup='source .venv/bin/activate' -- \\
        codir train --config=configs/codir/finetune_distill.py:mnli --config.teacher.path=runs/teacher \\
            --workdir=runs/student

Needs `sbatch` here, and on the nodes the package (with CUDA for GPUs) in a folder that all of them see, as the workdir
must be. jax finds its processes by the variables that `srun` sets. SIGTERM comes --grace_seconds before the time limit:
the run saves and leaves with status 75, on which the job is requeued, at most --max_restarts times.
"""

import re
import shlex
from collections.abc import Sequence

import launcher
from launcher import Command

SCRIPT = """#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node={tasks}
{optional}#SBATCH --time={time}
#SBATCH --signal=TERM@{grace}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output={name}-%j.log
trap : TERM  # srun gets it as well; this shell waits for its exit status
{setup}
srun --kill-on-bad-exit=1 {command}
status=$?
if {again}; then
  if [ "${{SLURM_RESTART_COUNT:-0}}" -lt {max_restarts} ]; then
    echo "exit status $status: requeued, ${{SLURM_RESTART_COUNT:-0}} restarts so far of at most {max_restarts}"
    scontrol requeue "$SLURM_JOB_ID"
    sleep 60  # the requeue ends this shell
  else
    echo "exit status $status again; given up after {max_restarts} restarts"
  fi
fi
exit $status
"""


def main(arguments: Sequence[str]) -> int:
    """Prints or submits the job."""
    parser = launcher.parser(__doc__)
    parser.add_argument("--name", default="codir", help="of the job and its log (default: %(default)s)")
    parser.add_argument("--nodes", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--gpus_per_node", type=int, default=0, help="0: CPU nodes (default: %(default)s)")
    parser.add_argument("--cpus_per_task", type=int, default=8, help="(default: %(default)s)")
    parser.add_argument("--time", required=True, help="limit, [DAYS-]HH:MM:SS")
    parser.add_argument("--partition", default="", help="(default: the cluster's)")
    parser.add_argument("--account", default="", help="(default: yours)")
    parser.add_argument("--setup", default=":", help="shell line before srun, e.g. 'module load cuda'")
    parser.add_argument(
        "--grace_seconds", type=int, default=120, help="to save before the limit (default: %(default)s)"
    )
    launcher.add_restart_flags(parser)
    options, command = launcher.flags(parser, arguments)
    launcher.require_positive(options, "nodes", "cpus_per_task", "grace_seconds")
    launcher.require_restarts(options)
    if options.gpus_per_node < 0:
        raise ValueError(f"--gpus_per_node must be at least 0, got {options.gpus_per_node}")
    if not re.fullmatch(r"(\d+-)?\d{1,2}:\d{2}:\d{2}", options.time):
        raise ValueError(f"--time expects [DAYS-]HH:MM:SS such as 04:00:00, got {options.time!r}")
    for name in ("name", "partition", "account"):
        if re.search(r"[^\w.-]", getattr(options, name)):
            raise ValueError(f"--{name} expects letters, digits, dots and dashes, got {getattr(options, name)!r}")
    submit = Command(("sbatch",), stdin=script(options, command))
    if options.dry_run:
        print(submit.shell())
        return 0
    return submit.run()


def script(options, command: tuple[str, ...]) -> str:
    """The batch script."""
    gpus = options.gpus_per_node
    lines = [f"--cpus-per-task={options.cpus_per_task}"]
    # Not --gpus-per-task: jax picks the GPU of a task by its local id, so each task must see all of its node.
    lines += [f"--gpus-per-node={gpus}"] if gpus else []
    lines += [f"--{name}={getattr(options, name)}" for name in ("partition", "account") if getattr(options, name)]
    platform = "cuda" if gpus else "cpu"
    return SCRIPT.format(
        name=options.name,
        nodes=options.nodes,
        tasks=max(gpus, 1),
        optional="".join(f"#SBATCH {line}\n" for line in lines),
        time=options.time,
        grace=options.grace_seconds,
        setup=options.setup,
        command=shlex.join(("env", f"JAX_PLATFORMS={platform}", *command)),
        again=" || ".join(f'[ "$status" -eq {status} ]' for status in options.restart_on),
        max_restarts=options.max_restarts,
    )


if __name__ == "__main__":
    launcher.exit_with(main)
