"""Makes the golden files beside it: a tiny model of each family on torch, its outputs, gradients and one update.

    python tests/models/golden/make.py [NAME ...]     # needs torch and transformers; the tests need neither

Each model is a Hugging Face folder (`config.json`, `model.safetensors`) with `io.npz`: inputs, every hidden state,
logits, loss, gradients ("grad/NAME") and, of the classifiers, the weights after one AdamW step ("updated/NAME"); names
as in the checkpoint.
Gradients and updates are kept for some of the tensors only: the files stay small.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForMaskedLM,
    DebertaV2ForSequenceClassification,
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForMaskedLM,
    ElectraForSequenceClassification,
    ModernBertConfig,
    ModernBertForMaskedLM,
    ModernBertForSequenceClassification,
    MPNetConfig,
    MPNetForMaskedLM,
    MPNetForSequenceClassification,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaForSequenceClassification,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

HERE = Path(__file__).parent
# eps far above the rounding of a gradient that is 0 in theory (a key's bias), which Adam would blow up to a step.
ADAMW = {"lr": 1e-2, "betas": (0.9, 0.999), "eps": 1e-4, "weight_decay": 0.01}
SIZES = {
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "hidden_size": 12,
    "intermediate_size": 16,
    "initializer_range": 0.2,  # large, so that attention is not uniform and slips show
    "attn_implementation": "eager",
}
BERT = BertConfig(vocab_size=61, max_position_embeddings=20, type_vocab_size=2, num_labels=3, **SIZES)
ROBERTA = RobertaConfig(
    vocab_size=67, max_position_embeddings=20, type_vocab_size=1, num_labels=3, layer_norm_eps=1e-5, **SIZES
)
XLM_ROBERTA = XLMRobertaConfig(
    vocab_size=71, max_position_embeddings=20, type_vocab_size=1, num_labels=3, layer_norm_eps=1e-5, **SIZES
)
DISTILBERT = DistilBertConfig(
    vocab_size=61, max_position_embeddings=20, n_layers=2, n_heads=3, dim=12, hidden_dim=16, num_labels=3,
    initializer_range=0.2, attn_implementation="eager",
)  # fmt: skip
# 41 columns, so that distances reach buckets that several of them share.
MPNET = MPNetConfig(vocab_size=61, max_position_embeddings=44, num_labels=3, layer_norm_eps=1e-5, **SIZES)
# Embeddings of another width than the states, and an activation that the heads have not.
ELECTRA = ElectraConfig(
    vocab_size=61, max_position_embeddings=20, embedding_size=6, num_labels=3, hidden_act="relu", **SIZES
)
# Windows smaller than the texts, thetas that turn states at such distances, and two activations.
MODERNBERT = ModernBertConfig(
    vocab_size=61, max_position_embeddings=20, num_labels=3, local_attention=5, global_attn_every_n_layers=2,
    global_rope_theta=100.0, local_rope_theta=4.0, classifier_pooling="mean", classifier_activation="relu",
    pad_token_id=0, bos_token_id=1, cls_token_id=1, eos_token_id=2, sep_token_id=2, **{**SIZES, "num_hidden_layers": 3},
)  # fmt: skip
# Buckets of few distances, so that most are shared, and another activation of the pooler.
DEBERTA = DebertaV2Config(
    vocab_size=61, max_position_embeddings=44, num_labels=3, relative_attention=True, position_buckets=8,
    norm_rel_ebd="layer_norm", share_att_key=True, pos_att_type="p2c|c2p", position_biased_input=False,
    pooler_hidden_act="relu", **SIZES,
)  # fmt: skip
MODELS = {
    "bert_seqcls": (BertForSequenceClassification, BERT),
    "bert_mlm": (BertForMaskedLM, BERT),
    "roberta_seqcls": (RobertaForSequenceClassification, ROBERTA),
    "roberta_mlm": (RobertaForMaskedLM, ROBERTA),
    "xlm_roberta_seqcls": (XLMRobertaForSequenceClassification, XLM_ROBERTA),
    "distilbert_seqcls": (DistilBertForSequenceClassification, DISTILBERT),
    "distilbert_mlm": (DistilBertForMaskedLM, DISTILBERT),
    "mpnet_seqcls": (MPNetForSequenceClassification, MPNET),
    "mpnet_mlm": (MPNetForMaskedLM, MPNET),
    "electra_seqcls": (ElectraForSequenceClassification, ELECTRA),
    "electra_mlm": (ElectraForMaskedLM, ELECTRA),
    "deberta_v2_seqcls": (DebertaV2ForSequenceClassification, DEBERTA),
    "deberta_v2_mlm": (DebertaV2ForMaskedLM, DEBERTA),
    "modernbert_seqcls": (ModernBertForSequenceClassification, MODERNBERT),
    "modernbert_mlm": (ModernBertForMaskedLM, MODERNBERT),
}
# Left out of what is stored of gradients and updates: later layers, the embeddings and the head are kept, which the
# gradient reaches through everything else.
SKIPPED = (".layer.0.", ".layers.0.")


def inputs(config, rng):
    """Pairs of three lengths, padded to 8 or 41, with token types where the model has them."""
    longest = 41 if config.max_position_embeddings > 40 else 8
    lengths, split = (longest, 5, 2), (4, 3, 1)
    pad = config.pad_token_id
    input_ids = np.full((3, longest), pad, np.int64)
    token_type_ids = np.zeros((3, longest), np.int64)
    for row, (length, first) in enumerate(zip(lengths, split, strict=True)):
        input_ids[row, :length] = rng.integers(4, config.vocab_size, length)
        if getattr(config, "type_vocab_size", 1) > 1:
            token_type_ids[row, first:length] = 1
    return {
        "input_ids": input_ids,
        "attention_mask": (input_ids != pad).astype(np.int64),
        "token_type_ids": token_type_ids,
    }


def make(name, cls, config):
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    model = cls(config)
    with torch.no_grad():  # fresh biases are 0 and scales 1: an exchange of two would not show
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.eval()
    folder = HERE / name
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    (folder / "model.safetensors").chmod(0o644)

    batch = inputs(config, rng)
    if name.endswith("mlm"):
        shape = batch["input_ids"].shape
        labels = np.where(rng.random(shape) < 0.4, rng.integers(4, config.vocab_size, shape), -100)
        labels = np.where(batch["attention_mask"] > 0, labels, -100)
    else:
        labels = np.array([0, 2, 1])
    tensors = {key: torch.from_numpy(value) for key, value in batch.items()}
    if not getattr(config, "type_vocab_size", 0):
        del tensors["token_type_ids"]
    out = model(**tensors, labels=torch.from_numpy(labels), output_hidden_states=True)
    out.loss.backward()
    parameters = {key: p for key, p in model.named_parameters() if not any(skip in key for skip in SKIPPED)}
    stored = {key: value.astype(np.int16) for key, value in batch.items()} | {"labels": labels.astype(np.int16)}
    stored |= {f"hidden_{i}": h.detach().numpy() for i, h in enumerate(out.hidden_states)}
    stored |= {"logits": out.logits.detach().numpy(), "loss": out.loss.detach().numpy()}
    stored |= {f"grad/{key}": p.grad.numpy().copy() for key, p in parameters.items()}
    if not name.endswith("mlm"):
        torch.optim.AdamW(model.parameters(), **ADAMW).step()
        stored |= {f"updated/{key}": p.detach().numpy() for key, p in parameters.items()}
    np.savez_compressed(folder / "io.npz", **stored)


if __name__ == "__main__":
    for name in sys.argv[1:] or MODELS:
        make(name, *MODELS[name])
    total = sum(path.stat().st_size for path in HERE.rglob("*") if path.is_file())
    print(f"{total / 1024:.0f} KiB")
