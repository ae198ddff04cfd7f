"""One process on all GPUs (or some) of this machine.

    python launch/gpu_host.py --gpus=0,1,2,3 -- \\
        codir train --config=configs/codir/finetune_distill.py:sst2 --config.teacher.path=runs/teacher \\
            --workdir=runs/student

Needs an NVIDIA driver (`nvidia-smi`) and the package with CUDA: `CODIR_EXTRAS=cuda bash launch/environment.sh`. Exit
status 75 (preempted and saved) starts the command again, at most --max_restarts times; every other status ends the
run. Ctrl-C or SIGTERM goes to the command: it saves and leaves.
"""

from collections.abc import Sequence

import launcher
from launcher import Command


def main(arguments: Sequence[str]) -> int:
    """Prints or runs the command."""
    parser = launcher.parser(__doc__)
    parser.add_argument("--gpus", default="", help="comma separated numbers, e.g. 0,1 (default: all)")
    parser.add_argument(
        "--memory_share", type=float, default=0.9, help="of each GPU, taken at the start (default: 0.9)"
    )
    parser.add_argument("--grace_seconds", type=float, default=60.0, help="to save and leave (default: %(default)s)")
    launcher.add_restart_flags(parser)
    options, command = launcher.flags(parser, arguments)
    launcher.require_restarts(options)
    launcher.require_grace(options)
    if options.gpus and not all(word.isdigit() for word in options.gpus.split(",")):
        raise ValueError(f"--gpus expects numbers such as 0,1, got {options.gpus!r}")
    if len(set(words := options.gpus.split(","))) < len(words):
        raise ValueError(f"--gpus has a number twice: {options.gpus}")
    if not 0 < options.memory_share <= 1:
        raise ValueError(f"--memory_share must be in (0, 1], got {options.memory_share}")
    run = build(options, launcher.find_program(command))
    if options.dry_run:
        print(run.shell())
        return 0
    Command(("nvidia-smi", "-L")).require()
    return launcher.supervise(
        [run],
        max_restarts=options.max_restarts,
        restart_on=options.restart_on,
        grace_seconds=options.grace_seconds,
    )


def build(options, command: tuple[str, ...]) -> Command:
    """The command with the machine's environment."""
    environment = {
        # Without CUDA in the installed jax this is an error at the start; jax alone would go on on the CPU.
        "JAX_PLATFORMS": "cuda",
        "XLA_PYTHON_CLIENT_MEM_FRACTION": f"{options.memory_share:g}",
    }
    if options.gpus:
        environment["CUDA_VISIBLE_DEVICES"] = options.gpus
    return Command(command, environment)


if __name__ == "__main__":
    launcher.exit_with(main)
