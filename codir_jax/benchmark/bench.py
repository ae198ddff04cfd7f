"""`codir bench`: sections that are each measured on the same subject, as one JSON-able result."""

import dataclasses
import time
from typing import Any

from codir_jax.benchmark import (
    exchange,
    inference,
    peak,
    pytorch,
    pytorch_language_model,
    pytorch_sentence_encoder,
    training,
)
from codir_jax.benchmark import subject as subject_lib
from codir_jax.evaluation import cost
from codir_jax.models.heads import abstract_params
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import rules
from codir_jax.stage import workdir

SECTIONS = ("train_live", "train_cached", "pretraining", "evaluation", "inference")
OTHER_SECTIONS = ("collectives", "pytorch_training", "pytorch_inference")  # on request
# Sections, on request too, that bring their own models.
OWN_MODELS = ("pytorch_language_model", "pytorch_sentence_encoder")


@dataclasses.dataclass(frozen=True)
class Request:
    """What to measure.

    Attributes:
      sections: of SECTIONS and OTHER_SECTIONS, in order; () is all of SECTIONS that the config's task has. One of
        OWN_MODELS stands alone.
      config: PATH.py[:ARG] of a distillation (of pytorch_sentence_encoder: of triplets); "" is the demo.
      overrides: (dotted key, text).
      model: of a randomly started teacher, see `models.sizes.names()`; for a config without a teacher.path.
      steps: timed steps. epochs: whole ones in their place; 0 is none.
      fixed_length: random texts of so many tokens in place of the config's data; 0 is the data.
      batch_size: 0 leaves the config's.
    """

    sections: tuple[str, ...] = ()
    config: str = ""
    overrides: tuple[tuple[str, str], ...] = ()
    model: str = ""
    steps: int = 20
    epochs: int = 0
    fixed_length: int = 0
    batch_size: int = 0

    def __post_init__(self):
        known = (*SECTIONS, *OTHER_SECTIONS, *OWN_MODELS)
        unknown = [name for name in self.sections if name not in known]
        if unknown:
            raise UserError(f"--sections has {unknown}; known: {', '.join(known)}")
        if len(self.sections) > 1 and (alone := set(OWN_MODELS) & set(self.sections)):
            raise UserError(f"--sections has {alone.pop()}, which measures models of its own: give it alone")
        if self.epochs and self.epochs < 2:
            raise UserError(f"--epochs={self.epochs}; the first one compiles and is left out: give at least 2")
        for name, least in (("steps", 2), ("fixed_length", 0), ("batch_size", 0)):
            if getattr(self, name) < least:
                raise UserError(f"--{name} must be >= {least}, got {getattr(self, name)}")


def run(request: Request, started: float, say=lambda text: None) -> dict[str, Any]:
    """The measurements: {"sections": {name: {...}}, "models", "data", "peak", ..., "sentences_per_second"}.

    "sentences_per_second" (and "..._median", where all steps had one shape) is that of the first section.

    Args:
      started: `time.perf_counter()` of the start of the program.
      say: is told what is being measured.

    Raises:
      UserError: before anything is measured.
    """
    if request.sections and request.sections[0] in OWN_MODELS:
        return {"sections": {request.sections[0]: _own_models(request, say)}, **workdir.environment()}
    config = subject_lib.load_config(
        request.config, request.overrides, batch_size=request.batch_size, fixed_length=request.fixed_length
    )
    subject = subject_lib.make(
        config,
        model=request.model,
        fixed_length=request.fixed_length,
        epochs=request.epochs,
        num_steps=request.steps,
    )
    stage = subject.stage
    data = stage.task.facts()["task"]
    say(f"teacher {describe(stage.teacher)}, student {describe(stage.student)}, data {data}")
    results = {
        "teacher": subject.teacher_name,
        "models": {"teacher": describe(stage.teacher), "student": describe(stage.student)},
        "data": data,
        "num_train": stage.feed.num_train,
        "objective": config.objective.name,
        "dtype": config.student.dtype,
    }
    wanted = request.sections or _possible(subject)
    if "train_cached" in wanted and not subject.can_be_cached:
        raise UserError(
            "--sections has train_cached, and the teacher's outputs of this config cannot be kept: its inputs change "
            f"from epoch to epoch, or every token is compared; it has: {', '.join(_possible(subject))}"
        )
    setup_seconds = time.perf_counter() - started
    sections: dict[str, dict[str, Any]] = {}
    for name in wanted:
        say(f"{name} ...")
        if name in ("train_live", "train_cached", "pretraining"):
            since = time.perf_counter() - setup_seconds  # each section as if it were the only one
            of_section = subject_lib.pretraining(subject) if name == "pretraining" else subject
            live = name != "train_cached"
            measured = training.measure(
                of_section, live=live, steps=request.steps, epochs=request.epochs, started=since
            )
        elif name == "evaluation":
            measured = inference.evaluation(subject)
        elif name == "inference":
            measured = inference.inference(subject, num_repeats=max(request.steps, 20))
        elif name == "pytorch_training":
            measured = pytorch.training(subject, num_epochs=request.epochs or 4, say=say)
        elif name == "pytorch_inference":
            measured = pytorch.inference(subject, num_repeats=request.steps, say=say)
        else:
            measured = exchange.measure(subject)
        sections[name] = measured
    working = [measured for measured in sections.values() if "flops_per_second" in measured]
    if working:
        say("matrix products ...")
        results["peak"] = peak.matrix_product_flops(
            stage.feed.sharding, rules.num_batch_shards(*stage.layout), config.student.dtype
        )
    for measured in working:
        limit = results["peak"]["flops_per_second"]
        measured["utilisation"] = {name: value / limit for name, value in measured["flops_per_second"].items()}
    results["setup_seconds"] = setup_seconds
    results |= {"sections": sections, **workdir.environment()}
    first = sections[wanted[0]]
    results |= {name: first[name] for name in first if name.startswith("sentences_per_second")}
    return results


def _own_models(request: Request, say) -> dict[str, Any]:
    if request.sections == ("pytorch_language_model",):
        return pytorch_language_model.measure(request.steps, say)
    config = pytorch_sentence_encoder.load_config(request.config, request.overrides, request.batch_size)
    return pytorch_sentence_encoder.measure(config, num_turns=request.epochs or 4, say=say)


def _possible(subject) -> tuple[str, ...]:
    """The sections of SECTIONS that the task of the subject has."""
    if subject.can_be_cached:
        return SECTIONS
    # "pretraining" measures masked language models of the subject's sizes: it is one itself, or nothing is known of it.
    return tuple(name for name in SECTIONS if name not in ("train_cached", "pretraining"))


def describe(model) -> str:
    """e.g. "6 x 384, 22.7 M parameters"."""
    count = cost.count_parameters(abstract_params(model.module))
    return f"{model.config.num_layers} x {model.config.hidden_size}, {count / 1e6:.1f} M parameters"
