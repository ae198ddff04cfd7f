"""A Cloud TPU slice: copies and installs the package on every worker, then runs the command on all of them.

    python launch/tpu_pod.py --name=my-slice --zone=us-west4-a --create=v5litepod-256 --queued --spot \\
        --setup='sudo mount -t nfs 10.0.0.2:/share /mnt/share' -- \\
        codir train --config=configs/codir/finetune_distill.py:mnli --config.teacher.path=/mnt/share/teacher \\
            --workdir=/mnt/share/student
    python launch/tpu_pod.py --name=my-slice --zone=us-west4-a --stop

Needs `gcloud`, logged in, with the TPU API on. Without --create the slice is there already. Run it in the project's
folder: that is what is copied. The workdir must be a folder that every worker sees (--setup mounts it). jax finds its
processes by the slice's metadata. Exit status 75 (preempted and saved) starts the command again on every worker, at
most --max_restarts times; a slice that was taken away needs this command again. --stop makes all save and leave.
"""

import re
import shlex
from collections.abc import Sequence

import launcher
from launcher import Command

# Prefix of an accelerator type -> runtime image, https://cloud.google.com/tpu/docs/runtimes
RUNTIMES = {
    "v2": "tpu-ubuntu2204-base",
    "v3": "tpu-ubuntu2204-base",
    "v4": "tpu-ubuntu2204-base",
    "v5litepod": "v2-alpha-tpuv5-lite",
    "v5p": "v2-alpha-tpuv5",
    "v6e": "v2-alpha-tpuv6e",
}
FILES = ("codir_jax", "configs", "launch", "pyproject.toml", "README.md", "LICENSE")
FOLDER, ARCHIVE, STOP = "codir", "codir.tar.gz", "codir.stop"  # in the home of every worker
# The command line of the Python that trains, and of no shell that started it.
TRAINING = "^[^ ]*python[^ ]* [^ ]*codir train"
# The images come with Python 3.10.
INSTALL = (
    f"rm -rf {FOLDER}/codir_jax {FOLDER}/configs && mkdir -p {FOLDER} && tar -xzf {ARCHIVE} -C {FOLDER} && "
    "{ command -v python3.11 >/dev/null || { sudo apt-get update -q && sudo apt-get install -q -y python3.11-venv; }; }"
    f" && CODIR_EXTRAS=tpu bash {FOLDER}/launch/environment.sh"
)


def main(arguments: Sequence[str]) -> int:
    """Prints or runs the steps, in order; the first that fails ends it."""
    parser = launcher.parser(__doc__)
    parser.add_argument("--name", required=True, help="of the slice")
    parser.add_argument("--zone", required=True, help="e.g. us-west4-a")
    parser.add_argument("--project", default="", help="(default: gcloud's)")
    parser.add_argument("--create", default="", metavar="TYPE", help="make the slice first, e.g. v5litepod-16, v6e-64")
    parser.add_argument("--runtime_version", default="", help="of --create (default: the base image of its type)")
    parser.add_argument("--queued", action="store_true", help="--create as a queued resource, and wait for it")
    parser.add_argument("--spot", action="store_true", help="--create what may be taken away at any time")
    parser.add_argument("--setup", default="", help="shell line on every worker before the command")
    parser.add_argument("--stop", action="store_true", help="make a running command save and leave, on every worker")
    launcher.add_restart_flags(parser)
    options, command = launcher.flags(parser, arguments)
    launcher.require_restarts(options)
    check(options)
    for step in build(options, command):
        if options.dry_run:
            print(step.shell())
        elif status := step.run():
            launcher.tell(f"exit status {status} of: {step.shell()}")
            return status
    return 0


def check(options) -> None:
    """Refuses names and types that gcloud would refuse minutes later."""
    for name, pattern in (("name", r"[a-z][a-z0-9-]*"), ("zone", r"[a-z]+-[a-z]+\d+-[a-z]")):
        if not re.fullmatch(pattern, getattr(options, name)):
            raise ValueError(f"--{name} {getattr(options, name)!r} is none: expected the form {pattern}")
    kind, dash, size = options.create.partition("-")
    if options.create and not (kind in RUNTIMES and dash and size.isdigit() and int(size) > 0):
        raise ValueError(
            f"--create={options.create!r}: expected TYPE-SIZE with a TYPE of {', '.join(RUNTIMES)} and a SIZE above 0"
        )
    if (options.queued or options.spot or options.runtime_version) and not options.create:
        raise ValueError("--queued, --spot and --runtime_version are about --create=TYPE, which is not given")


def build(options, command: tuple[str, ...]) -> list[Command]:
    """The steps: make the slice, copy, install, run; or stop."""
    gcloud = ("gcloud", "compute", "tpus")
    place = (f"--zone={options.zone}", *([f"--project={options.project}"] if options.project else []))

    def everywhere(line: str) -> Command:
        return Command((*gcloud, "tpu-vm", "ssh", options.name, *place, "--worker=all", f"--command={line}"))

    if options.stop:
        return [everywhere(f"touch {STOP} && pkill -TERM -f {shlex.quote(TRAINING)}")]
    if command[0] == "codir":
        command = (".venv/bin/codir", *command[1:])
    line = f"cd {FOLDER} && JAX_PLATFORMS=tpu {shlex.join(command)}"
    loop = launcher.restart_loop(f"( {line} )", options.max_restarts, options.restart_on, STOP)
    return [
        *_create(options, gcloud, place),
        Command(("tar", "--exclude=__pycache__", "-czf", ARCHIVE, *FILES)),
        Command((*gcloud, "tpu-vm", "scp", ARCHIVE, f"{options.name}:", *place, "--worker=all")),
        everywhere(INSTALL),
        everywhere(f"rm -f {STOP}; {options.setup + ' && ' if options.setup else ''}{{ {loop}; }}"),
    ]


def _create(options, gcloud: tuple[str, ...], place: tuple[str, ...]) -> list[Command]:
    if not options.create:
        return []
    runtime = options.runtime_version or RUNTIMES[options.create.partition("-")[0]]
    what = (f"--accelerator-type={options.create}", *(["--spot"] if options.spot else []))
    if not options.queued:
        return [Command((*gcloud, "tpu-vm", "create", options.name, *place, *what, f"--version={runtime}"))]
    resource = (*gcloud, "queued-resources")
    ask = (
        *resource,
        "create",
        options.name,
        *place,
        f"--node-id={options.name}",
        f"--runtime-version={runtime}",
        *what,
    )
    state = shlex.join((*resource, "describe", options.name, *place, "--format=value(state.state)"))
    wait = (
        f'while :; do state=$({state}); echo "queued resource: $state"; case "$state" in ACTIVE) exit 0;; '
        "FAILED|SUSPENDED|SUSPENDING) exit 1;; esac; sleep 30; done"
    )
    return [Command(ask), Command(("bash", "-c", wait))]


if __name__ == "__main__":
    launcher.exit_with(main)
