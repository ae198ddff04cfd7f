"""A Kubernetes JobSet, one pod a host: TPU slices and GPU nodes on GKE, GPU or CPU nodes elsewhere.

    python launch/jobset.py --name=student --image=europe-docker.pkg.dev/me/codir:1 --volume=runs \\
        --tpu=tpu-v5-lite-podslice --topology=4x8 --chips_per_host=4 --num_hosts=8 -- \\
        codir train --config=configs/codir/finetune_distill.py:mnli --config.teacher.path=/runs/teacher \\
            --workdir=/runs/student

Needs PyYAML (it comes with the package) and `kubectl` with a cluster that has JobSet (https://jobset.sigs.k8s.io,
0.6 or newer), an image with the package
installed, and --volume, a PersistentVolumeClaim that all pods may write, which is /runs in every pod. On TPU jax finds
its processes by the variables that GKE sets; elsewhere they get the address of pod 0, which the JobSet's headless
service resolves. No permission and no `kubernetes` package is needed. Exit status 75 (preempted and saved) and an
evicted pod start all pods again, at most --max_restarts times; every other status ends the JobSet.
"""

import re
from collections.abc import Sequence

import launcher
from launcher import Command

# Values of cloud.google.com/gke-tpu-accelerator, https://cloud.google.com/kubernetes-engine/docs/concepts/tpus
TPUS = ("tpu-v3-slice", "tpu-v4-podslice", "tpu-v5-lite-podslice", "tpu-v5p-slice", "tpu-v6e-slice")
PORT = 29400


def main(arguments: Sequence[str]) -> int:
    """Prints or applies the JobSet."""
    parser = launcher.parser(__doc__)
    parser.add_argument("--name", default="codir", help="of the JobSet (default: %(default)s)")
    parser.add_argument("--image", required=True, help="container image with the package installed")
    parser.add_argument("--volume", required=True, help="PersistentVolumeClaim (ReadWriteMany), mounted at /runs")
    parser.add_argument("--num_hosts", type=int, default=1, help="pods (default: %(default)s)")
    parser.add_argument("--tpu", default="", help=f"accelerator: {', '.join(TPUS)}")
    parser.add_argument("--topology", default="", help="of the slice, e.g. 4x8 or 2x2x4")
    parser.add_argument("--chips_per_host", type=int, default=4, help="TPU chips (default: %(default)s)")
    parser.add_argument("--gpus_per_host", type=int, default=0, help="NVIDIA GPUs (default: %(default)s)")
    parser.add_argument("--namespace", default="default", help="(default: %(default)s)")
    parser.add_argument("--grace_seconds", type=int, default=120, help="to save when a pod is evicted (default: 120)")
    launcher.add_restart_flags(parser)
    options, command = launcher.flags(parser, arguments)
    launcher.require_positive(options, "num_hosts", "chips_per_host", "grace_seconds")
    launcher.require_restarts(options)
    launcher.require_text(options, "image", "volume", "namespace")
    check(options)
    if "/" in options.volume:
        raise ValueError(f"--volume={options.volume!r} names a PersistentVolumeClaim, and no path")
    import yaml  # after the flags, so that --help needs nothing

    text = yaml.safe_dump(manifest(options, command), sort_keys=False, width=1000)
    apply = Command(("kubectl", "apply", "-f", "-"), stdin=text)
    if options.dry_run:
        print(apply.shell())
        return 0
    return apply.run()


def check(options) -> None:
    """Refuses what the cluster would refuse, or would leave pending for ever."""
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?", options.name):
        raise ValueError(f"--name={options.name!r}: expected at most 32 of a-z, 0-9 and -, starting with a letter")
    if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", options.volume):
        raise ValueError(f"--volume={options.volume!r}: expected the name of a claim, of a-z, 0-9, dots and dashes")
    if options.tpu and options.gpus_per_host:
        raise ValueError("--tpu and --gpus_per_host exclude each other; give one of them")
    if options.gpus_per_host < 0:
        raise ValueError(f"--gpus_per_host must be at least 0, got {options.gpus_per_host}")
    if options.topology and not options.tpu:
        raise ValueError(f"--topology={options.topology} is about --tpu, which is not given")
    if not options.tpu:
        return
    if options.tpu not in TPUS:
        raise ValueError(f"--tpu={options.tpu!r} is no accelerator of GKE; known: {', '.join(TPUS)}")
    if not re.fullmatch(r"\d+x\d+(x\d+)?", options.topology):
        raise ValueError(f"--tpu needs its --topology such as 4x8 or 2x2x4, got {options.topology!r}")
    chips = 1
    for side in options.topology.split("x"):
        chips *= int(side)
    per_host = options.chips_per_host
    if chips != options.num_hosts * per_host:
        raise ValueError(
            f"--topology={options.topology} has {chips} chips, and {options.num_hosts} hosts x {per_host} chips are "
            f"{options.num_hosts * per_host}: give --num_hosts={max(chips // per_host, 1)}"
        )


def manifest(options, command: tuple[str, ...]) -> dict:
    """The JobSet as a tree."""
    name, index = options.name, "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    limits = {"google.com/tpu": options.chips_per_host} if options.tpu else {}
    limits |= {"nvidia.com/gpu": options.gpus_per_host} if options.gpus_per_host else {}
    platform = "tpu" if options.tpu else "cuda" if options.gpus_per_host else "cpu"
    environment = [{"name": "JAX_PLATFORMS", "value": platform}]
    if not options.tpu:
        environment += [
            {"name": "CODIR_COORDINATOR", "value": f"{name}-host-0-0.{name}:{PORT}"},
            {"name": "CODIR_NUM_PROCESSES", "value": str(options.num_hosts)},
            {"name": "CODIR_PROCESS_ID", "valueFrom": {"fieldRef": {"fieldPath": index}}},
        ]
    container = {
        "name": "codir",
        "image": options.image,
        "command": list(command),
        "env": environment,
        "resources": {"limits": limits},
        "volumeMounts": [{"name": "runs", "mountPath": "/runs"}],
    }
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": options.grace_seconds,
        "containers": [container],
        "volumes": [{"name": "runs", "persistentVolumeClaim": {"claimName": options.volume}}],
    }
    if options.tpu:
        selector = {"accelerator": options.tpu, "topology": options.topology}
        pod["nodeSelector"] = {f"cloud.google.com/gke-tpu-{key}": value for key, value in selector.items()}
    job = {
        "parallelism": options.num_hosts,
        "completions": options.num_hosts,
        "completionMode": "Indexed",
        "backoffLimit": 0,  # one failed pod fails the job; what then happens is the JobSet's failurePolicy
        "podFailurePolicy": {
            "rules": [
                {"action": "Count", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                {
                    "action": "FailJob",
                    "onExitCodes": {
                        "containerName": "codir",
                        "operator": "NotIn",
                        "values": sorted(options.restart_on),
                    },
                },
            ]
        },
        "template": {"spec": pod},
    }
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": name, "namespace": options.namespace},
        "spec": {
            "network": {"enableDNSHostnames": True, "subdomain": name, "publishNotReadyAddresses": True},
            "failurePolicy": {
                "maxRestarts": options.max_restarts,
                "rules": [{"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}],
            },
            "replicatedJobs": [{"name": "host", "replicas": 1, "template": {"spec": job}}],
        },
    }


if __name__ == "__main__":
    launcher.exit_with(main)
