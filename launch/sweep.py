"""Runs arms x tasks x seeds from configs, in parallel, and prints the table with paired intervals.

    python launch/sweep.py --output=runs/sweep --tasks=cola,rte --seeds=0,1,2,3,4 --baseline=distill \\
        --config.teacher.path=runs/teacher_{task} \\
        --arm='distill configs/codir/finetune_distill.py:{task},distill --search optimizer.learning_rate=1e-4,2e-4' \\
        --arm='codir configs/codir/finetune_distill.py:{task},paper --search objective.contrastive_weight=0.02,0.1'

An arm is `NAME CONFIG [KEY=VALUE ...] [--search KEY=V1,V2 ...]`; {task} is filled in, in values also {seed}.
`--search` lists the trials of an arm (the product of its lists); every arm must have the same number of trials, which
are compared on the search seeds (not among the reported ones) by the mean dev score, separately for every task. Each
run is a workdir under --output: what is finished is not run again, what was stopped goes on. One worker per device, or
per two cores on a CPU; a failed run is named and leaves its cell open.
"""

import argparse
import concurrent.futures
import dataclasses
import itertools
import json
import multiprocessing
import os
import shlex
import signal
import sys
import threading
import time
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Arm:
    """NAME, config path, fixed overrides and the trials of its search (each a tuple of overrides)."""

    name: str
    config: str
    fixed: tuple[tuple[str, str], ...]
    trials: tuple[tuple[tuple[str, str], ...], ...]


@dataclasses.dataclass(frozen=True)
class Job:
    """One run: config spec, overrides, workdir."""

    config: str
    overrides: tuple[tuple[str, str], ...]
    workdir: str


def parse_arm(text: str) -> Arm:
    """The arm of a command-line text; see the module's docstring."""
    words = shlex.split(text)
    if len(words) < 2:
        raise ValueError(f"--arm={text!r}: expected 'NAME CONFIG [KEY=VALUE ...] [--search KEY=V1,V2 ...]'")
    name, config, *rest = words
    fixed, lists = [], []
    while rest:
        word = rest.pop(0)
        is_search = word == "--search"
        key, equals, value = (rest.pop(0) if is_search and rest else word).partition("=")
        if not equals:
            raise ValueError(f"--arm={text!r}: {word!r} is not KEY=VALUE")
        if is_search:
            lists.append([(key, one) for one in value.split(",")])
        else:
            fixed.append((key, value))
    return Arm(name, config, tuple(fixed), tuple(itertools.product(*lists)))


def flags(arguments: list[str]) -> tuple[argparse.Namespace, list[tuple[str, str]]]:
    """(flags, overrides of every arm)."""
    from codir_jax.main import split_overrides

    rest, overrides = split_overrides(arguments)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--output", required=True, help="folder of all runs, table.md and table.json")
    parser.add_argument("--tasks", required=True, help="comma separated, put in the place of {task}")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="reported seeds (default: %(default)s)")
    parser.add_argument("--search_seeds", default="100", help="seeds of the search (default: %(default)s)")
    parser.add_argument("--arm", action="append", required=True, help="repeat for every arm")
    parser.add_argument("--baseline", default="", help="arm that the others are paired with (default: the first)")
    parser.add_argument("--metric", default="", help="dev metric to report (default: the primary one)")
    parser.add_argument("--workers", type=int, default=0, help="runs at once (default: one a device, or per two cores)")
    parser.add_argument("--table_only", action="store_true", help="print the table of what is finished")
    return parser.parse_args(rest), overrides["config"]


def plan_search(arms, tasks, seeds, shared, output) -> dict[tuple[str, str, int], list[Job]]:
    """(task, arm, trial) -> its runs on the search seeds; nothing for an arm with a single way to run."""
    jobs = {}
    for task, arm in itertools.product(tasks, arms):
        for number, trial in enumerate(arm.trials if len(arm.trials) > 1 else ()):
            jobs[task, arm.name, number] = [
                make_job(arm, task, trial, seed, shared, output / task / arm.name / f"search_{number}_seed_{seed}")
                for seed in seeds
            ]
    return jobs


def make_job(arm, task, trial, seed, shared, workdir) -> Job:
    """The run of one arm, task, trial and seed. The arm's own overrides come after the shared ones."""
    values = (*shared, *arm.fixed, *trial)
    filled = [(key, value.replace("{task}", task).replace("{seed}", str(seed))) for key, value in values]
    return Job(arm.config.replace("{task}", task), (*filled, ("seed", str(seed))), str(workdir))


def run_job(job: Job) -> str:
    """Runs one workdir to its end in this process; returns what went wrong, or nothing."""
    from codir_jax import config
    from codir_jax.processes import environment
    from codir_jax.stage import run

    environment.set_defaults()
    Path(job.workdir).mkdir(parents=True, exist_ok=True)
    try:
        with open(Path(job.workdir) / "log.txt", "a", encoding="utf-8", buffering=1) as log:
            sys.stdout = log
            run.run(config.load(job.config, job.overrides), job.workdir)
    except Exception as error:
        return f"{job.workdir}: {error}"
    finally:
        sys.stdout = sys.__stdout__
    return ""


def start_worker(queue) -> None:
    """Takes a device (or cores) of its own before JAX is imported, and ends with the process that started it."""
    threading.Thread(target=stop_with_parent, daemon=True).start()
    name, values = queue.get()
    if name == "cores":
        os.sched_setaffinity(0, values)
    else:
        os.environ[name] = str(values)


def stop_with_parent() -> None:
    """A parent that was killed cannot stop its workers: they save and stop, as on any SIGTERM."""
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
    os._exit(1)


def execute(jobs: list[Job], workers: int) -> list[str]:
    """Runs the unfinished jobs in parallel; returns the failures."""
    waiting = [job for job in jobs if not (Path(job.workdir) / "results.json").exists()]
    print(f"{len(jobs)} runs, {len(jobs) - len(waiting)} finished before", flush=True)
    if not waiting:
        return []
    context = multiprocessing.get_context("spawn")
    places = worker_places(workers)
    queue = context.Queue()
    for place in places:
        queue.put(place)
    failures = []
    with concurrent.futures.ProcessPoolExecutor(
        len(places), mp_context=context, initializer=start_worker, initargs=(queue,)
    ) as pool:
        futures = {pool.submit(run_job, job): job for job in waiting}
        for number, future in enumerate(concurrent.futures.as_completed(futures), 1):
            problem = future.result()
            print(f"[{number}/{len(waiting)}] {problem or futures[future].workdir}", flush=True)
            failures += [problem] if problem else []
    return failures


def worker_places(workers: int) -> list[tuple[str, object]]:
    """For each worker the environment variable (or cores) that gives it a part of the machine."""
    cards = os.environ.get("CUDA_VISIBLE_DEVICES")
    if cards is None and Path("/proc/driver/nvidia/gpus").is_dir():
        cards = ",".join(str(i) for i, _ in enumerate(Path("/proc/driver/nvidia/gpus").iterdir()))
    if cards:
        ids = cards.split(",")
        return [("CUDA_VISIBLE_DEVICES", ids[i % len(ids)]) for i in range(workers or len(ids))]
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    workers = workers or max(len(cores) // 2, 1)
    if not hasattr(os, "sched_setaffinity"):
        return [("CODIR_WORKER", i) for i in range(workers)]
    return [("cores", set(cores[i % len(cores) :: workers])) for i in range(workers)]


def score_of(job: Job) -> float | None:
    """The primary dev metric of a finished run."""
    results = read_results(job)
    return results["dev"][results["primary_metric"]] if results else None


def read_results(job: Job) -> dict | None:
    """results.json of a finished run."""
    path = Path(job.workdir) / "results.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def choose(arm: Arm, task: str, search) -> tuple[tuple[tuple[str, str], ...], dict]:
    """(overrides of the best trial, every trial's mean score)."""
    if len(arm.trials) <= 1:
        return (arm.trials[0] if arm.trials else ()), {}
    scores = {}
    for number in range(len(arm.trials)):
        values = [score_of(job) for job in search[task, arm.name, number]]
        if None not in values:
            scores[number] = sum(values) / len(values)
    first = next((r for n in scores for job in search[task, arm.name, n] if (r := read_results(job))), {})
    choice = min if first.get("primary_metric", "").endswith("_loss") else max  # of a masked LM less is better
    best = choice(scores, key=scores.get) if scores else 0
    told = {" ".join(f"{k}={v}" for k, v in arm.trials[n]): round(s, 4) for n, s in scores.items()}
    return arm.trials[best], told


def make_table(arms, tasks, final, chosen, searched, baseline, metric_name="") -> dict:
    """Everything the printed table holds, for each task and arm; of the primary metric, or of `metric_name`."""
    from codir_jax.evaluation import statistics

    table = {}
    for task in tasks:
        rows = {}
        found = {arm.name: [read_results(job) for job in final[task, arm.name]] for arm in arms}
        for arm in arms:
            runs = [r for r in found[arm.name] if r]
            row = {
                "config": arm.config.replace("{task}", task),
                "overrides": [f"{k}={v}" for k, v in (*arm.fixed, *chosen[task, arm.name])],
                "search": searched[task, arm.name],
                "seeds": [r["seed"] for r in runs],
            }
            if runs:
                metric = metric_name or runs[0]["primary_metric"]
                row |= {"metric": metric, "scores": [r["dev"][metric] for r in runs]}
                row["last_scores"] = [r["dev_last"][metric] for r in runs]
                row |= {"summary": statistics.summary(row["scores"])._asdict(), "seconds": [r["seconds"] for r in runs]}
                row["teacher"] = (runs[0].get("teacher_dev") or {}).get(metric)
                for name in ("teacher_kl", "teacher_agreement", "teacher_mse"):
                    values = [r["dev"][name] for r in runs if name in r["dev"]]
                    if values:
                        row[name] = sum(values) / len(values)
            pairs = [
                (ours["dev"][metric], theirs["dev"][metric])
                for ours, theirs in zip(found[arm.name], found[baseline], strict=True)
                if ours and theirs
            ]
            if len(pairs) > 1 and arm.name != baseline:
                row["difference"] = statistics.paired_difference(*zip(*pairs, strict=True))._asdict()
            rows[arm.name] = row
        table[task] = rows
    return table


def markdown(table: dict, baseline: str) -> str:
    """The table as Markdown: losses in nats, other scores times 100."""
    lines = []
    for task, rows in table.items():
        metric = next((row["metric"] for row in rows.values() if "metric" in row), "")
        teacher = next((row["teacher"] for row in rows.values() if row.get("teacher") is not None), None)
        scale, digits = (1, 3) if metric.endswith(("_loss", "_kl")) else (100, 1)
        told = f", teacher {scale * teacher:.{digits}f}" if teacher is not None else ""
        lines += [
            f"### {task}: {metric}{' x 100' if scale == 100 else ''} on dev{told}",
            "",
            f"| arm | mean | sd | seeds | minus {baseline} (95 % interval) | KL to teacher | settings |",
            "|---|---|---|---|---|---|---|",
        ]
        for name, row in rows.items():
            chosen = " ".join(row["overrides"]) or "-"
            if "summary" not in row:
                lines.append(f"| {name} | | | 0 | | | {chosen} |")
                continue
            mean, sd, n = (row["summary"][key] for key in ("mean", "sd", "n"))
            spread = f"{scale * sd:.{digits}f}" if sd is not None else ""
            gap = ""
            if "difference" in row:
                gap = "{} ({} to {})".format(
                    *(f"{scale * row['difference'][k]:+.{digits}f}" for k in ("mean", "low", "high"))
                )
            kl = f"{row['teacher_kl']:.3f}" if "teacher_kl" in row else ""
            lines.append(f"| {name} | {scale * mean:.{digits}f} | {spread} | {n} | {gap} | {kl} | {chosen} |")
        lines.append("")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Search, final runs, table; returns 1 if a run failed."""
    options, shared = flags(arguments)
    output = Path(options.output)
    arms = [parse_arm(text) for text in options.arm]
    names = [arm.name for arm in arms]
    baseline = options.baseline or names[0]
    if baseline not in names or len(set(names)) < len(names):
        raise ValueError(f"--baseline={baseline!r} must be one of the arms, each named once: {names}")
    counts = {arm.name: len(arm.trials) for arm in arms}
    if len(set(counts.values())) > 1:
        raise ValueError(f"every arm needs the same number of trials, got {counts}")
    tasks = options.tasks.split(",")
    seeds, search_seeds = ([int(s) for s in text.split(",")] for text in (options.seeds, options.search_seeds))
    if set(seeds) & set(search_seeds):
        raise ValueError(f"--search_seeds {search_seeds} must not be among the reported --seeds {seeds}")

    search = plan_search(arms, tasks, search_seeds, shared, output)
    failures = []
    if not options.table_only:
        failures += execute([job for jobs in search.values() for job in jobs], options.workers)
    chosen, searched, final = {}, {}, {}
    for task, arm in itertools.product(tasks, arms):
        chosen[task, arm.name], searched[task, arm.name] = choose(arm, task, search)
        final[task, arm.name] = [
            make_job(arm, task, chosen[task, arm.name], seed, shared, output / task / arm.name / f"seed_{seed}")
            for seed in seeds
        ]
    if not options.table_only:
        # Seed by seed over all arms, so that a stopped sweep has whole pairs.
        ordered = [final[task, arm.name][i] for i in range(len(seeds)) for task in tasks for arm in arms]
        failures += execute(ordered, options.workers)
    table = make_table(arms, tasks, final, chosen, searched, baseline, options.metric)
    text = markdown(table, baseline)
    output.mkdir(parents=True, exist_ok=True)
    (output / "table.md").write_text(text, encoding="utf-8")
    (output / "table.json").write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    print(text)
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    from codir_jax.processes import environment

    environment.use_huge_pages()
    try:
        sys.exit(main(sys.argv[1:]))
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
