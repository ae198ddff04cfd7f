"""A linear classifier on a frozen encoder: stage 2 of SupCL-Seq, or of any model with a pooler that was trained.

L = mean over labelled examples of the cross entropy of W v + b, with v what the classifier reads, without dropout. The
encoder sits in the teacher's seat, where its vectors are computed once for the whole train set and kept, keyed by its
fingerprint; the student is the same model (`student.init="teacher"`, all layers), of which `optimizer.rules` train the
classifier only, as configs/supcl_seq/linear_head.py does. What is saved is an ordinary sequence classifier.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from codir_jax.models.apply import apply_model
from codir_jax.models.products import product
from codir_jax.objectives.contract import Objective, Setting, Step, TeacherView
from codir_jax.objectives.sums import mean
from codir_jax.objectives.texts import init_model
from codir_jax.processes.fields import defaults, field

HEADS, ROLES = ("classification",), ("student", "teacher")
IS_WHOLE_TEACHER = LEARNS_VECTORS = NEEDS_LABELS = True
FIELDS = {"name": field("linear_head", "the method, a file of codir_jax/objectives")}


def default_config() -> ConfigDict:
    """Fields of the method."""
    return ConfigDict(defaults(FIELDS))


def make(config: ConfigDict, setting: Setting) -> Objective:
    """The objective; the student is the teacher whole, by `IS_WHOLE_TEACHER`."""

    def view(teacher_params, batch):
        output = apply_model(setting.teacher, teacher_params, batch, method="vectors")
        return {"teacher_vectors": jax.lax.stop_gradient(output.vectors)}

    def init(rng, batch):
        student_rng, teacher_rng = jax.random.split(rng)
        frozen = {"teacher": init_model(setting.teacher, teacher_rng, batch)}
        return {"student": init_model(setting.student, student_rng, batch)}, frozen, {}

    def loss(params, frozen, objective_state, batch, step: Step):
        del step
        kept = batch if "teacher_vectors" in batch else view(frozen["teacher"], batch)
        classifier = params["student"]["classifier"]
        vectors = kept["teacher_vectors"].astype(jnp.float32)
        terms = setting.head.terms(config, batch, product(vectors, classifier["kernel"]) + classifier["bias"])
        return mean(terms.task), (objective_state, terms.metrics)

    return Objective(init, loss, teacher_view=TeacherView(view, {"vectors": "pooler"}))
