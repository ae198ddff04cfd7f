"""CoDIR fine-tuning as a user of PyTorch and transformers would write it, with the flags that make it fast.

It does the work of `objectives/codir.py` with the preset "paper": task loss, soft targets, InfoNCE of both anchors with
shared rows of two banks and the batch as negatives, rows of equal class masked; AdamW, clipping. PyTorch is imported
where it is used: the program does not need it.
"""

import dataclasses
import math
import os
from typing import Any

import numpy as np

from codir_jax.benchmark.subject import Subject
from codir_jax.convert import pytorch_model
from codir_jax.models.layer_selection import match_layers
from codir_jax.processes.user_error import UserError

# Batches whose texts are sorted by length together: that of transformers' LengthGroupedSampler (--group_by_length).
_MEGABATCH = 50


def import_torch():
    """The module `torch`.

    Raises:
      UserError: it is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise UserError(
            "a comparison with PyTorch needs PyTorch, which is not installed here; install its CPU build into this "
            "environment: pip install torch --index-url https://download.pytorch.org/whl/cpu"
        ) from error
    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    return torch


@dataclasses.dataclass(frozen=True)
class Corner:
    """How PyTorch is set.

    Attributes:
      grouped: batches of like length (--group_by_length); else shuffled texts.
      bfloat16: autocast (--bf16); else float32.
      cached: the teacher's outputs are computed once, before the first epoch.
    """

    grouped: bool
    bfloat16: bool
    cached: bool

    @property
    def name(self) -> str:
        """E.g. "live, grouped, bfloat16"."""
        words = (
            "cached" if self.cached else "live",
            "grouped" if self.grouped else "shuffled",
            "bfloat16" if self.bfloat16 else "float32",
        )
        return ", ".join(words)


class Training:
    """Fine-tuning of a subject's student by CoDIR in PyTorch, on its texts, from random weights.

    Args:
      subject: of preset "paper": a classification, pooling "mean", layers concatenated, negatives "in_batch+bank".
      corner: how PyTorch is set.

    Raises:
      UserError: PyTorch is not installed, or the subject is of another method.
    """

    def __init__(self, subject: Subject, corner: Corner):
        self._torch = torch = import_torch()
        objective = subject.config.objective
        _check(subject)
        self._corner, self._objective, self._batch_size = corner, objective, subject.config.data.batch_size
        self._clip_norm = subject.config.optimizer.clip_norm
        self._examples = subject.stage.feed.data.splits["train"]
        self._pad = subject.stage.feed.data.pad_token_id
        self._labels = torch.from_numpy(self._examples.labels.astype(np.int64))
        teacher, student = subject.stage.teacher.config, subject.stage.student.config
        pairs = match_layers(objective.layer_matches, teacher.num_layers, student.num_layers)
        self._student_layers, self._teacher_layers = (list(side) for side in zip(*pairs, strict=True))
        num_labels = subject.stage.task.head.num_labels
        self._teacher = pytorch_model.classifier(teacher, num_labels).eval().requires_grad_(False)
        self._student = pytorch_model.classifier(student, num_labels).train()
        widths = (len(pairs) * student.hidden_size, len(pairs) * teacher.hidden_size)
        self._projections = torch.nn.ModuleList(torch.nn.Linear(width, objective.projection_dim) for width in widths)
        shape = (2, len(self._examples), objective.projection_dim)
        self._banks = torch.nn.functional.normalize(torch.randn(shape), dim=-1)
        self._parameters = [*self._student.parameters(), *self._projections.parameters()]
        decay = [p for p in self._parameters if p.ndim > 1]
        rest = [p for p in self._parameters if p.ndim < 2]
        groups = [{"params": decay, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
        self._optimizer = torch.optim.AdamW(groups, lr=subject.stage.optimizer_config.learning_rate, fused=True)
        self._rng = np.random.default_rng(subject.config.seed)
        self._kept = self._teacher_outputs() if corner.cached else None

    def epoch(self) -> float:
        """Trains one epoch and returns the loss of its last step."""
        for rows in self.batches():
            loss = self._step(rows)
        return loss

    def batches(self) -> list[np.ndarray]:
        """The rows of each batch of a new epoch."""
        order = self._rng.permutation(len(self._examples))
        if self._corner.grouped:
            size = _MEGABATCH * self._batch_size
            parts = [order[start : start + size] for start in range(0, len(order), size)]
            order = np.concatenate([part[np.argsort(-self._examples.lengths[part], kind="stable")] for part in parts])
        return [order[start : start + self._batch_size] for start in range(0, len(order), self._batch_size)]

    def _step(self, rows: np.ndarray) -> float:
        torch, functional, objective = self._torch, self._torch.nn.functional, self._objective
        inputs, ids = self._inputs(rows), torch.from_numpy(rows)
        labels = self._labels[ids]
        if self._kept is None:
            teacher_logits, teacher_pooled = self._teacher_view(inputs)
        else:
            teacher_logits, teacher_pooled = (kept[ids] for kept in self._kept)
        with self._autocast():
            output = self._student(**inputs, output_hidden_states=True)
        pooled = self._pooled(output.hidden_states, self._student_layers, inputs["attention_mask"])
        logits, degrees = output.logits.float(), objective.soft_target_temperature
        loss = objective.task_weight * functional.cross_entropy(logits, labels)
        loss = loss + objective.soft_target_weight * degrees**2 * functional.kl_div(
            functional.log_softmax(logits / degrees, -1),
            functional.log_softmax(teacher_logits / degrees, -1),
            log_target=True,
            reduction="batchmean",
        )
        loss = loss + objective.contrastive_weight * self._contrastive(pooled, teacher_pooled, ids, labels)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self._clip_norm:
            torch.nn.utils.clip_grad_norm_(self._parameters, self._clip_norm)
        self._optimizer.step()
        return loss.item()

    def _contrastive(self, student, teacher, ids, labels):
        """InfoNCE: each side's feature picks out the other side's of the same text among batch and bank."""
        torch, objective = self._torch, self._objective
        count = min(objective.negatives.num_negatives, len(self._examples))
        drawn = torch.from_numpy(self._rng.integers(0, len(self._examples), count))
        is_same = labels[:, None] == torch.cat([labels, self._labels[drawn]])[None]
        is_same.fill_diagonal_(False)  # the positive
        features = [
            torch.nn.functional.normalize(projection(x), dim=-1)
            for projection, x in zip(self._projections, (student, teacher), strict=True)
        ]
        target, losses = torch.arange(len(ids)), []
        for side in (0, 1):
            keys = torch.cat([features[1 - side], self._banks[1 - side][drawn]])
            scores = (features[side] @ keys.T / objective.contrastive_temperature).masked_fill(is_same, -1e9)
            losses.append(torch.nn.functional.cross_entropy(scores, target))
        with torch.no_grad():
            momentum = objective.negatives.momentum
            for bank, new in zip(self._banks, features, strict=True):
                bank[ids] = torch.nn.functional.normalize(momentum * bank[ids] + (1 - momentum) * new, dim=-1)
        return sum(losses) / 2

    def _inputs(self, rows: np.ndarray) -> dict[str, Any]:
        """The texts, padded to the longest of them."""
        examples = self._examples
        lengths = examples.lengths[rows]
        is_token = np.arange(lengths.max()) < lengths[:, None]
        flat = np.concatenate([np.arange(examples.offsets[row], examples.offsets[row + 1]) for row in rows])
        ids, types = np.full(is_token.shape, self._pad, np.int64), np.zeros(is_token.shape, np.int64)
        ids[is_token], types[is_token] = examples.tokens[flat], examples.token_types[flat]
        named = {"input_ids": ids, "attention_mask": is_token.astype(np.int64), "token_type_ids": types}
        return {name: self._torch.from_numpy(array) for name, array in named.items()}

    def _teacher_view(self, inputs):
        with self._torch.no_grad(), self._autocast():
            output = self._teacher(**inputs, output_hidden_states=True)
        return output.logits.float(), self._pooled(output.hidden_states, self._teacher_layers, inputs["attention_mask"])

    def _teacher_outputs(self):
        """(logits, pooled states) of every text, in batches of like length."""
        order = np.argsort(self._examples.lengths, kind="stable")
        parts = np.array_split(order, math.ceil(len(order) / self._batch_size))
        views = [self._teacher_view(self._inputs(rows)) for rows in parts]
        back = self._torch.from_numpy(np.argsort(np.concatenate(parts)))
        return tuple(self._torch.cat(column)[back] for column in zip(*views, strict=True))

    def _pooled(self, hidden_states, layers, mask):
        """Means over real tokens, standardised, layers side by side: float32 [batch, layers * width]."""
        weights = (mask / mask.sum(1, keepdim=True))[:, :, None].float()
        pooled = self._torch.stack([(hidden_states[i].float() * weights).sum(1) for i in layers], 1)
        centred = pooled - pooled.mean(-1, keepdim=True)
        return (centred * self._torch.rsqrt((centred**2).mean(-1, keepdim=True) + 1e-6)).flatten(1)

    def _autocast(self):
        return self._torch.autocast("cpu", dtype=self._torch.bfloat16, enabled=self._corner.bfloat16)


def _check(subject: Subject) -> None:
    """Refuses a subject of another method than the one that is written here."""
    objective = subject.config.objective
    wanted = {"name": "codir", "contrastive_loss": "info_nce", "pooling": "mean", "layer_aggregation": "concat"}
    wanted |= {"standardize_layers": True, "anchors": "both"}
    other = {name: objective.get(name) for name, value in wanted.items() if objective.get(name) != value}
    if not other and objective.negatives.source != "in_batch+bank":
        other = {"negatives.source": objective.negatives.source}
    if other or subject.stage.task.head.name != "classification" or subject.stage.task.head.num_labels < 2:
        raise UserError(
            f"the comparison with PyTorch is of CoDIR's preset 'paper' on classes; other here: {other or 'the head'}"
        )
