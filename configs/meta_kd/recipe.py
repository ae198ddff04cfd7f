"""Meta-KD as one job: a table of texts with a domain each -> one teacher -> one small student a domain.

    codir compress --recipe=meta_kd --teacher=bert-base-uncased --train=train.tsv --dev=dev.tsv \\
        --domain_column=domain --layers=3 --output=runs/mine
    codir compress --recipe=meta_kd --output=runs/demo

The given model is the encoder that weighs the texts and that the teacher is trained from. Each domain gets two stages,
`student_inside_NAME` and `student_NAME`. Baselines, `--compare=`: `mixed` (from a teacher of all domains, nothing
weighted, no domain term; of own files unless others are named), `single` (each student from a teacher of its own
domain), `contrast` (Meta-KD, its second stage with CoDIR's term), `finetune` (cross entropy alone). The students that
are best over the dev rows of all domains are exported, each to export/NAME.

Without files it demonstrates itself on sentences of four domains, each with words of its own: the encoder is a small
mixed teacher from scratch (from random weights the domain term leaves nothing to learn with), every weight is 1.
"""

import functools

from codir_jax.config import parse_arguments
from codir_jax.data.sets import demo_domains
from codir_jax.jobs.recipe import Recipe, StageSpec
from codir_jax.jobs.weigh import prepare
from codir_jax.processes.user_error import UserError

PRETRAINED = (("student.init", "pretrained"), ("student.path", "{given}"), ("student.num_layers", "0"))
FROM_MIXED = (("student.init", "pretrained"), ("student.path", "{mixed_teacher}"), ("student.num_layers", "0"))
FROM_MIXED += (("train.total_epochs", "2"), ("optimizer.learning_rate", "3e-4"))
FROM_GIVEN = (("student.init", "teacher"), ("student.num_layers", "{layers}"))


def get_recipe(argument: str) -> Recipe:
    """The recipe for own files or "demo"; `column=NAME` is the domain column, `domain=NAME` a domain, `with=SPLIT` a
    file beside train and dev."""
    words = argument.split(",")
    domains = tuple(word.removeprefix("domain=") for word in words if word.startswith("domain="))
    column = next((word.removeprefix("column=") for word in words if word.startswith("column=")), "")
    splits = ("train", "dev", *(word.removeprefix("with=") for word in words if word.startswith("with=")))
    rest = [word for word in words if not word.startswith(("domain=", "column=", "with="))]
    if rest == ["demo", "scratch"]:
        return _recipe(
            "demo",
            demo_domains.DOMAINS,
            (),
            FROM_MIXED,
            ("mixed", "contrast"),
            lambda name: (("data.domains_only", name),),
        )
    parse_arguments(",".join(rest), ("own",))
    if not column or not domains:
        raise UserError("--recipe=meta_kd needs --domain_column: the column with the name of each text's domain")
    arms = ("finetune", "single", "mixed", "contrast")
    made = _recipe("own", domains, PRETRAINED, PRETRAINED, arms, functools.partial(_files, splits))
    return made._replace(compare=("mixed",), prepare=functools.partial(prepare, column, domains))


def _recipe(data: str, domains: tuple[str, ...], start, meta_start, arms: tuple[str, ...], data_of) -> Recipe:
    """Stages of all domains.

    Args:
      data: argument of the configs. arms: baselines.
      start, meta_start: settings of the teachers of baselines, and of Meta-KD's own.
      data_of: name of a domain, "" for all -> settings of its data.
    """
    config = f"configs/meta_kd/teacher.py:{data}"
    stages = [
        StageSpec("mixed_teacher", "teacher, nothing weighted", f"{config},mixed", (*start, *data_of(""))),
        StageSpec("meta_teacher", "teacher of all domains", config, (*meta_start, *data_of(""))),
    ]
    for domain in domains:
        if "single" in arms:
            settings = (*start, *data_of(domain))
            name = f"single_teacher_{domain}"
            stages.append(StageSpec(name, f"{domain}: teacher of its own", f"{config},mixed", settings))
        stages += _students(data, domain, data_of(domain), arms)
    groups = {arm: tuple(f"{arm}_{domain}" for domain in domains) for arm in ("student", *arms)}
    return Recipe("Meta-KD", tuple(stages), main=groups["student"][0], exports=domains, groups=groups)


def _files(splits: tuple[str, ...], domain: str) -> tuple[tuple[str, str], ...]:
    folder = "{job}/weighed" + (f"/{domain}" if domain else "")
    return tuple((f"data.{split}_path", f"{folder}/{split}.jsonl") for split in splits)


def _students(data: str, domain: str, data_settings: tuple[tuple[str, str], ...], arms: tuple[str, ...]):
    config = f"configs/meta_kd/student.py:{data}"
    start = (("teacher.path", "{given}"), *FROM_GIVEN)
    finetune = "configs/codir/finetune_distill.py:own,finetune"
    if "finetune" in arms:
        yield StageSpec(f"finetune_{domain}", f"{domain}: cross entropy", finetune, (*start, *data_settings))
    for name, arm, teacher, title in (
        ("single", ",mixed", f"{{single_teacher_{domain}}}", "from its own teacher"),
        ("mixed", ",mixed", "{mixed_teacher}", "from the mixed teacher"),
        ("student", "", "{meta_teacher}", "Meta-KD"),
    ):
        if name not in (*arms, "student"):
            continue
        inside = f"{name}_inside_{domain}"
        taught = (("teacher.path", teacher), *data_settings)
        settings = (*taught, ("student.num_layers", "{layers}"))
        yield StageSpec(inside, f"{domain}: {title}, inside", f"{config},intermediate{arm}", settings, in_table=False)
        settings = (*taught, ("student.path", f"{{{inside}}}"), ("teacher.cache_dir", "{job}/teacher_cache"))
        yield StageSpec(f"{name}_{domain}", f"{domain}: {title}", f"{config},prediction", settings)
        if name == "student" and "contrast" in arms:
            title = f"{domain}: Meta-KD + CoDIR"
            yield StageSpec(f"contrast_{domain}", title, f"{config},prediction,contrast", settings)
