"""Several CPU processes of this machine as one run: what a cluster does, where there is none.

    python launch/local.py --num_processes=2 --devices_per_process=4 -- \\
        codir train --config=configs/codir/finetune_teacher.py:tiny --workdir=runs/two

Every process gets CPU devices of its own and the address of process 0. Needs the package only, installed as
`bash launch/environment.sh` does. When one process dies all are stopped. Exit status 75 (preempted and saved) starts
all of them again, at most --max_restarts times; every other status ends the run. Ctrl-C or SIGTERM goes to all of
them: they save and leave.
"""

import socket
from collections.abc import Sequence

import launcher
from launcher import Command

# Each is a Python of its own with some hundred megabytes.
MAX_PROCESSES = 256
# Each is a thread pool of XLA's.
MAX_DEVICES = 1024


def main(arguments: Sequence[str]) -> int:
    """Prints or runs the processes."""
    parser = launcher.parser(__doc__)
    parser.add_argument("--num_processes", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--devices_per_process", type=int, default=1, help="fake devices each (default: %(default)s)")
    parser.add_argument("--port", type=int, default=29400, help="of process 0, on loopback (default: %(default)s)")
    parser.add_argument("--grace_seconds", type=float, default=60.0, help="to save and leave (default: %(default)s)")
    launcher.add_restart_flags(parser)
    options, command = launcher.flags(parser, arguments)
    launcher.require_positive(options, "num_processes", "devices_per_process")
    launcher.require_restarts(options)
    launcher.require_grace(options)
    for name, most in (("num_processes", MAX_PROCESSES), ("devices_per_process", MAX_DEVICES)):
        if getattr(options, name) > most:
            raise ValueError(f"--{name}={getattr(options, name)}: one machine runs at most {most}")
    if not 1024 <= options.port <= 65535:
        raise ValueError(f"--port must be in 1024..65535, got {options.port}")
    commands = build(options, launcher.find_program(command))
    if options.dry_run:
        for command in commands:
            print(f"{command.shell()} &")
        print("wait")
        return 0
    return launcher.supervise(
        commands,
        max_restarts=options.max_restarts,
        restart_on=options.restart_on,
        grace_seconds=options.grace_seconds,
        before_start=lambda: require_free(options.port),
    )


def build(options, command: tuple[str, ...]) -> list[Command]:
    """One command a process."""
    return [
        Command(
            command,
            {
                "JAX_PLATFORMS": "cpu",
                "XLA_FLAGS": f"--xla_force_host_platform_device_count={options.devices_per_process}",
                "CODIR_COORDINATOR": f"127.0.0.1:{options.port}",
                "CODIR_NUM_PROCESSES": str(options.num_processes),
                "CODIR_PROCESS_ID": str(process_id),
            },
        )
        for process_id in range(options.num_processes)
    ]


def require_free(port: int) -> None:
    """Refuses a port that another program listens on."""
    with socket.socket() as probe:
        # As the coordinator does: a port that an ended run has just left is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ValueError(f"port {port} is in use ({error.strerror}); another run? Give another --port") from error


if __name__ == "__main__":
    launcher.exit_with(main)
