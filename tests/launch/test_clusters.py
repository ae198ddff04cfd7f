"""Launchers of clusters: what they would run is what they run, what they write is valid, bad input is a sentence."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import gpu_host
import jobset
import launcher
import local
import pytest
import slurm
import tpu_pod
import yaml

# Quotes, a dollar and a space, as a shell would like to eat them.
TRAIN = ["codir", "train", "--config=a.py:sst2", "--workdir=/runs/it's $HOME", "--config.data.label_names=('a', 'b')"]
SLURM = ["--nodes=2", "--gpus_per_node=8", "--time=04:00:00", "--partition=gpu", "--setup=module load cuda"]
TPU = ["--name=my-slice", "--zone=us-west4-a", "--create=v5litepod-256", "--setup=mount /mnt/share"]
POD = ["--image=me/codir:1", "--volume=runs", "--num_hosts=2"]
POD_TPU = [*POD, "--tpu=tpu-v5-lite-podslice", "--topology=2x4"]
ALL = [
    ("slurm.py", SLURM),
    ("slurm.py", ["--time=1-00:00:00", "--max_restarts=0", "--restart_on=75,76"]),
    ("tpu_pod.py", TPU),
    ("tpu_pod.py", ["--name=my-slice", "--zone=us-west4-a"]),
    ("jobset.py", POD_TPU),
    ("jobset.py", [*POD, "--gpus_per_host=8"]),
]


def _dry(module, arguments, capsys, command=TRAIN):
    assert module.main([*arguments, "--dry-run", "--", *command]) == 0
    return capsys.readouterr().out


def _script(capsys, *arguments, command=TRAIN):
    return _dry(slurm, [*SLURM, *arguments], capsys, command).partition("\n")[2].rpartition("END_OF_INPUT")[0]


@pytest.mark.parametrize(("script", "arguments"), ALL)
def test_what_is_printed_does_what_the_launcher_does(recorded, script, arguments):
    real, from_text, text = recorded(script, [*arguments, "--", *TRAIN])
    assert real == from_text
    assert real.count("\n.\n") >= 1
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)


def test_a_queued_slice_is_waited_for(capsys):
    lines = _dry(tpu_pod, [*TPU, "--queued", "--spot"], capsys).splitlines()
    words = [shlex.split(line) for line in lines]
    assert words[0][:5] == ["gcloud", "compute", "tpus", "queued-resources", "create"]
    assert {"--accelerator-type=v5litepod-256", "--runtime-version=v2-alpha-tpuv5-lite", "--spot"} <= set(words[0])
    assert words[1][:2] == ["bash", "-c"]
    assert "queued-resources describe my-slice" in words[1][2]
    subprocess.run(["bash", "-n"], input=words[1][2], text=True, check=True)


def test_every_tpu_worker_runs_the_same_command(capsys):
    lines = [shlex.split(line) for line in _dry(tpu_pod, TPU, capsys).splitlines()]
    assert [words[0] for words in lines] == ["gcloud", "tar", "gcloud", "gcloud", "gcloud"]
    assert all("--worker=all" in words for words in lines[2:])
    (remote,) = (word.removeprefix("--command=") for word in lines[-1] if word.startswith("--command="))
    assert "mount /mnt/share && " in remote
    assert shlex.join([".venv/bin/codir", *TRAIN[1:]]) in remote
    subprocess.run(["bash", "-n"], input=remote, text=True, check=True)


def test_stop_reaches_the_training_and_not_its_shell(capsys):
    assert tpu_pod.main(["--name=my-slice", "--zone=us-west4-a", "--stop", "--dry-run"]) == 0
    assert "--worker=all" in capsys.readouterr().out
    pattern = re.compile(tpu_pod.TRAINING)
    assert pattern.search("/home/me/codir/.venv/bin/python3.11 .venv/bin/codir train --config=a")
    assert not pattern.search("bash -c ( cd codir && .venv/bin/codir train --config=a )")
    assert not pattern.search(f"pkill -TERM -f {tpu_pod.TRAINING}")


@pytest.mark.parametrize(
    ("statuses", "starts", "last"), [([75, 75, 0], 3, 0), ([75] * 9, 3, 75), ([1, 0], 1, 1), ([75, 3], 2, 3)]
)
def test_the_loop_on_a_worker_restarts_on_75_up_to_its_bound(tmp_path, statuses, starts, last):
    code = tmp_path / "codes"
    code.write_text("".join(f"{status}\n" for status in statuses))
    line = f"( s=$(head -1 {code}); sed -i 1d {code}; echo start; exit $s )"
    loop = launcher.restart_loop(line, 2, (75,), str(tmp_path / "stop"))
    done = subprocess.run(["bash", "-c", loop], capture_output=True, text=True)
    assert (done.stdout.splitlines().count("start"), done.returncode) == (starts, last)


def test_the_loop_on_a_worker_ends_when_stop_was_asked_for(tmp_path):
    (tmp_path / "stop").touch()
    loop = launcher.restart_loop("( exit 75 )", 2, (75,), str(tmp_path / "stop"))
    assert subprocess.run(["bash", "-c", loop], timeout=20).returncode == 75


def test_the_slurm_script_asks_for_one_task_a_gpu_and_a_signal(capsys):
    script = _script(capsys)
    lines = script.splitlines()
    for line in ("--nodes=2", "--ntasks-per-node=8", "--gpus-per-node=8", "--signal=TERM@120", "--requeue"):
        assert f"#SBATCH {line}" in lines
    assert lines[0] == "#!/bin/bash"
    assert f"srun --kill-on-bad-exit=1 env JAX_PLATFORMS=cuda {shlex.join(TRAIN)}" in lines
    # SLURM stops reading options at the first other line.
    other = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    assert not any(line.startswith("#SBATCH") for line in lines[other:])


@pytest.mark.parametrize(
    ("status", "restarts", "requeued"),
    [(75, "", True), (75, "9", True), (75, "10", False), (1, "", False), (0, "", False)],
)
def test_the_slurm_script_requeues_itself_on_75(tmp_path, capsys, status, restarts, requeued):
    script = _script(capsys, "--setup=:").replace("sleep 60", ":")
    for name, body in (("srun", f"exit {status}"), ("scontrol", f"echo $@ >{tmp_path}/requeued")):
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "17", "SLURM_RESTART_COUNT": restarts}
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True)
    assert done.returncode == status
    assert (tmp_path / "requeued").exists() == requeued
    if requeued:
        assert (tmp_path / "requeued").read_text() == "requeue 17\n"


def _manifest(arguments, capsys, command=TRAIN):
    text = _dry(jobset, arguments, capsys, command)
    return yaml.safe_load(text.partition("\n")[2].rpartition("END_OF_INPUT")[0])


def test_a_jobset_on_tpu_leaves_the_processes_to_gke(capsys):
    spec = _manifest(POD_TPU, capsys)["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert (spec["parallelism"], spec["completions"], spec["completionMode"]) == (2, 2, "Indexed")
    pod = spec["template"]["spec"]
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "2x4",
    }
    (container,) = pod["containers"]
    assert container["command"] == TRAIN
    assert container["resources"]["limits"] == {"google.com/tpu": 4}
    assert [one["name"] for one in container["env"]] == ["JAX_PLATFORMS"]


def test_a_jobset_on_gpus_gives_every_pod_the_address_of_the_first(capsys):
    whole = _manifest([*POD, "--name=mine", "--gpus_per_host=8"], capsys)
    (container,) = whole["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"]
    env = {one["name"]: one for one in container["env"]}
    # JobSet names a pod JOBSET-REPLICATEDJOB-JOB-POD, and the subdomain is its service.
    assert env["CODIR_COORDINATOR"]["value"] == "mine-host-0-0.mine:29400"
    assert whole["spec"]["network"]["subdomain"] == "mine"
    assert whole["spec"]["replicatedJobs"][0]["name"] == "host"
    assert env["CODIR_NUM_PROCESSES"]["value"] == "2"
    assert "job-completion-index" in env["CODIR_PROCESS_ID"]["valueFrom"]["fieldRef"]["fieldPath"]


def test_a_jobset_starts_again_on_75_and_on_eviction_and_on_nothing_else(capsys):
    spec = _manifest([*POD, "--max_restarts=4"], capsys)["spec"]
    assert spec["failurePolicy"]["maxRestarts"] == 4
    assert spec["failurePolicy"]["rules"] == [{"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}]
    job = spec["replicatedJobs"][0]["template"]["spec"]
    assert job["backoffLimit"] == 0
    evicted, other = job["podFailurePolicy"]["rules"]
    assert (evicted["action"], evicted["onPodConditions"][0]["type"]) == ("Count", "DisruptionTarget")
    assert other["action"] == "FailJob"
    assert other["onExitCodes"] == {"containerName": "codir", "operator": "NotIn", "values": [75]}


def test_words_that_yaml_would_read_as_something_else_stay_words(capsys):
    command = ["codir", "train", "--config.a=1", "yes", "0x1", "a: b", "#c"]
    spec = _manifest(POD, capsys, command)["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert spec["template"]["spec"]["containers"][0]["command"] == command


def test_an_argument_of_several_lines_is_refused():
    with pytest.raises(ValueError, match=r"has a line break.*'a\\nEND_OF_INPUT"):
        slurm.main(["--time=01:00:00", "--dry-run", "--", "codir", "a\nEND_OF_INPUT\nrm x"])


def test_an_argument_cannot_end_the_text_that_a_program_reads(tmp_path):
    text = "first\nEND_OF_INPUT\ntouch escaped\nEND_OF_INPUT_\nlast"
    line = launcher.Command(("cat",), stdin=text).shell()
    told = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert told == f"{text}\n" and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("module", "arguments", "says"),
    [
        (slurm, ["--time=4h"], "--time expects"),
        (slurm, ["--time=04:00:00", "--nodes=0"], "--nodes must be at least 1"),
        (slurm, ["--time=04:00:00", "--partition=a b"], "--partition expects"),
        (slurm, ["--time=04:00:00", "--restart_on=0"], "--restart_on expects"),
        (slurm, ["--time=04:00:00", "--max_restarts=-1"], "--max_restarts must be at least 0"),
        (tpu_pod, ["--name=a", "--zone=us-west4-a", "--create=v9-8"], "v5litepod"),
        (tpu_pod, ["--name=a", "--zone=west"], "--zone"),
        (tpu_pod, ["--name=a", "--zone=us-west4-a", "--spot"], "--create"),
        (jobset, [*POD, "--tpu=v5e", "--topology=2x4"], "tpu-v5-lite-podslice"),
        (jobset, [*POD, "--tpu=tpu-v5-lite-podslice"], "--topology"),
        (jobset, [*POD, "--tpu=tpu-v5-lite-podslice", "--topology=4x8"], "give --num_hosts=8"),
        (jobset, [*POD_TPU, "--gpus_per_host=1"], "exclude each other"),
        (jobset, [*POD, "--name=My_Job"], "--name"),
        (jobset, ["--image=", "--volume=v"], "--image expects a name"),
        (jobset, ["--image=i", "--volume=a/b"], "--volume='a/b': expected"),
        (tpu_pod, ["--name=a", "--zone=us-west4-a", "--create=v5litepod-0"], "--create"),
        (gpu_host, ["--gpus=all"], "--gpus expects numbers"),
        (gpu_host, ["--gpus=0,0"], "--gpus has a number twice"),
        (gpu_host, ["--memory_share=2"], "--memory_share"),
        (gpu_host, ["--grace_seconds=-1"], "--grace_seconds must be at least 0"),
        (local, ["--grace_seconds=nan"], "--grace_seconds must be at least 0"),
        (local, ["--num_processes=0"], "--num_processes"),
        (local, ["--num_processes=100000"], "at most 256"),
        (local, ["--devices_per_process=1000000"], "at most 1024"),
        (local, ["--port=80"], "--port"),
    ],
)
def test_bad_flags_are_refused_with_a_sentence(module, arguments, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        module.main([*arguments, "--dry-run", "--", "python", "-c", ""])


@pytest.mark.parametrize(
    ("module", "arguments"),
    [(slurm, SLURM), (tpu_pod, TPU), (jobset, POD), (gpu_host, []), (local, []), (local, ["--"])],
)
def test_a_missing_command_is_refused_with_an_example(module, arguments):
    with pytest.raises(ValueError, match="no command given; write it after `--`"):
        module.main(arguments)


def test_a_program_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ValueError, match="sbatch"):
        slurm.main([*SLURM, "--", *TRAIN])
    with pytest.raises(ValueError, match=r"launch/environment\.sh"):
        gpu_host.main(["--", "no-such-program"])


def test_bad_input_as_a_command_is_exit_status_2():
    done = subprocess.run(
        [sys.executable, "launch/slurm.py", "--time=4h", "--", "codir"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: --time expects")


@pytest.mark.parametrize("module", [slurm, tpu_pod, jobset, gpu_host, local])
def test_help_says_what_is_needed_and_shows_an_example(module, capsys):
    with pytest.raises(SystemExit):
        module.main(["--help"])
    text = capsys.readouterr().out
    assert "Needs " in text
    assert f"python launch/{module.__name__}.py" in text
    assert "codir train --config=" in text
    assert "75" in text


def _readme_commands():
    text = Path("launch/README.md").read_text(encoding="utf-8")
    for block in re.findall(r"```\w*\n(.*?)```", text, flags=re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if re.match(r"python launch/(?!sweep)\w+\.py ", line):
                yield line


@pytest.mark.parametrize("line", _readme_commands())
def test_a_launch_in_the_readme_is_one_that_can_be_launched(line):
    from codir_jax.main import parser, split_overrides

    words = shlex.split(line, comments=True)[1:]
    split = words.index("--") if "--" in words else len(words)
    done = subprocess.run([sys.executable, *words[:split], "--dry-run", *words[split:]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if split < len(words):
        assert words[split + 1] == "codir"
        parser().parse_args(split_overrides(words[split + 2 :])[0])


def test_the_readme_shows_every_launcher():
    shown = {shlex.split(line)[1] for line in _readme_commands()}
    assert shown == {f"launch/{name}.py" for name in ("local", "gpu_host", "slurm", "tpu_pod", "jobset")}


def test_the_gpu_host_sets_its_machine_and_nothing_else(capsys):
    command = [sys.executable, "-c", "pass"]
    words = shlex.split(_dry(gpu_host, ["--gpus=0,3"], capsys, command))
    assert words == [
        "env",
        "JAX_PLATFORMS=cuda",
        "XLA_PYTHON_CLIENT_MEM_FRACTION=0.9",
        "CUDA_VISIBLE_DEVICES=0,3",
        *command,
    ]
