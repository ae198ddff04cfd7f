"""Pre-training a masked language model, or going on with it. It makes teachers and is the baseline of every student.

The objective is that of `finetune` for another head: L = mean over masked tokens of the cross entropy of the true token
(Devlin et al. 2019).
"""

from ml_collections import ConfigDict

from codir_jax.objectives import finetune
from codir_jax.objectives.heads import masked_lm as head
from codir_jax.processes.fields import defaults, field

HEADS, ROLES = ("masked_lm",), ("student",)
make = finetune.make
FIELDS = {"name": field("masked_lm", "the method, a file of codir_jax/objectives"), **head.FIELDS}


def default_config() -> ConfigDict:
    """Fields of the method; the batch, optimizer and durations live elsewhere."""
    return ConfigDict(defaults(FIELDS))
