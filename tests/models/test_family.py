"""Every family that is found reads, writes, shrinks and counts; a new one joins by its file, a head by its entry."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import traverse_util

from codir_jax import models
from codir_jax.convert.pretrained import load_pretrained, read_sizes, stored_head
from codir_jax.convert.save import save_pretrained
from codir_jax.evaluation import cost
from codir_jax.models import contract, heads, sizes
from codir_jax.models.heads import HEADS, abstract_params, build_model
from codir_jax.models.layers import dense
from codir_jax.models.outputs import ModelOutput
from codir_jax.sharding.rules import unbox

FAMILIES = contract.families()
# A family says which heads it has; one that says nothing has all that are made of a text's states.
EVERY = tuple(head for head in HEADS if head not in ("language_model", "sentence_score"))
CASES = [(name, head) for name, family in FAMILIES.items() for head in family.heads or EVERY]
# Of three layers: rule -> those that a student of two starts from, and a list of four. A family of layers of two kinds
# allows others than those of one kind.
CHOICES = {"uniform": (1, 3), "last": (2, 3), "3,1": (3, 1)}, "1,1,2,3"
CHOICES_OF_KINDS = {"uniform": (1, 2), "first": (1, 2), "1,3": (1, 3)}, "1,2,3,3"
TINY = {"num_layers": 3, "hidden_size": 8, "num_heads": 2, "intermediate_size": 12, "max_positions": 24}


def tiny(family):
    """A few weights of every kind; of TINY what the family's config has."""
    known = {field.name for field in dataclasses.fields(next(iter(family.sizes.values())))}
    return family.from_scratch(40, 1, **{name: value for name, value in TINY.items() if name in known})


def fresh(config, head, num_labels=3):
    """Random weights by numpy: nothing is compiled."""
    rng = np.random.default_rng(0)
    shapes = unbox(abstract_params(build_model(config, head, num_labels)))
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


def same(a, b):
    a, b = traverse_util.flatten_dict(a), traverse_util.flatten_dict(b)
    return a.keys() == b.keys() and all(np.array_equal(a[path], b[path]) for path in a)


def check_round_trip(family, head, folder):
    config = tiny(family)
    params = fresh(config, head)
    save_pretrained(folder, config, params, head=head)
    again = load_pretrained(folder, head=head)
    assert again.has_head and again.config == config == read_sizes(folder)
    assert same(again.params, params)
    assert stored_head(folder) == head
    assert again.hf_config["architectures"] == [family.class_prefix + HEADS[head].architecture]


def choices(config):
    return CHOICES_OF_KINDS if hasattr(config, "is_global") else CHOICES


def check_shrink(family, head):
    config = tiny(family)
    params = fresh(config, head)
    for layers, chosen in choices(config)[0].items():
        smaller, student = family.shrink["layers"](config, params, num_layers=2, layers=layers)
        assert chosen == family.start_layers(layers, config, 2)
        assert smaller == dataclasses.replace(config, num_layers=2)
        assert same(unbox_shapes(student), unbox_shapes(fresh(smaller, head)))
        for i, layer in enumerate(chosen):
            assert same(student["encoder"][f"layer_{i}"], params["encoder"][f"layer_{layer - 1}"])
        assert all(same({0: student[own]}, {0: params[own]}) for own in student if own != "encoder")
        assert family.shrink["layers"](config, None, num_layers=2, layers=layers) == (smaller, None)
    assert family.shrink["layers"](config, None)[0].num_layers == 1  # half of three


def unbox_shapes(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf.shape), tree)


def check_flops(family, seq_len=5):
    """Each kernel meets each token; attention adds scores and a weighted sum, 2 L^2 H each and layer."""
    config = tiny(family)
    encoder = traverse_util.flatten_dict(fresh(config, (family.heads or tuple(HEADS))[0])["encoder"])
    products = sum(2 * seq_len * leaf.size for path, leaf in encoder.items() if path[-1].endswith("kernel"))
    attention = 4 * seq_len**2 * config.hidden_size * config.num_layers if hasattr(config, "num_heads") else 0
    if getattr(config, "relative_span", None):  # queries and keys meet the 2 L - 1 distances
        attention += 4 * seq_len * (2 * seq_len - 1) * config.hidden_size * config.num_layers
    assert family.flops(config, seq_len) == products + attention


@pytest.mark.parametrize(("name", "head"), CASES)
def test_what_was_written_is_read(name, head, tmp_path):
    check_round_trip(FAMILIES[name], head, tmp_path)


@pytest.mark.parametrize(("name", "head"), CASES)
def test_a_smaller_model_keeps_the_chosen_layers_and_the_head(name, head):
    check_shrink(FAMILIES[name], head)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_list_in_which_layers_repeat_makes_a_deeper_model(name):
    family = FAMILIES[name]
    config = tiny(family)
    params = fresh(config, (family.heads or tuple(HEADS))[0])
    deeper, student = family.shrink["layers"](config, params, num_layers=4, layers=choices(config)[1])
    assert deeper.num_layers == 4
    assert same(student["encoder"]["layer_3"], params["encoder"]["layer_2"])


@pytest.mark.parametrize("name", FAMILIES)
def test_operations_of_the_encoder_are_those_of_its_kernels(name):
    if FAMILIES[name].flops is None:
        pytest.skip("not modelled")
    check_flops(FAMILIES[name])


@pytest.mark.parametrize(("name", "head"), CASES)
def test_every_weight_has_one_place_in_the_checkpoint(name, head):
    config = tiny(FAMILIES[name])
    keys = FAMILIES[name].keys(config, head)
    assert keys.keys() == traverse_util.flatten_dict(fresh(config, head)).keys()
    assert len({key.name for key in keys.values()}) == len(keys)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_named_model_is_of_the_family_and_its_sizes_survive_a_config_json(name):
    family = FAMILIES[name]
    assert contract.family(name) is family and family.title and family.sizes
    for size, config in family.sizes.items():
        assert sizes.named(size) == config and config.family == name
        assert family.read_config(family.write_config(config)) == config


def test_heads_count_their_products():
    config = sizes.named("tiny")  # 32 wide
    encoder = FAMILIES["bert"].flops(config, 8)
    assert cost.model_flops(config, 8, cost.Outputs(3)) == encoder + 2 * 32 * 32 + 2 * 32 * 3
    of_tokens = cost.Outputs(num_predictions=2, head="masked_lm")
    assert cost.model_flops(config, 8, of_tokens) == encoder + 2 * (2 * 32 * 32 + 2 * 32 * 2048)
    with pytest.raises(ValueError, match="num_predictions must be at least 1"):
        cost.model_flops(config, 8, cost.Outputs(3, head="masked_lm"))


def test_the_names_of_sizes_are_the_families():
    assert sizes.names() == (
        *("tiny", "minilm", "bert-base", "bert-large"),
        *("deberta-v3-xsmall", "deberta-v3-small", "deberta-v3-base", "deberta-v3-large"),
        "distilbert-base",
        *("electra-small", "electra-base", "electra-large"),
        *("lstm-small", "lstm-medium", "lstm-large"),
        *("modernbert-base", "modernbert-large"),
        "mpnet-base",
        *("roberta-base", "roberta-large"),
        *("xlm-roberta-base", "xlm-roberta-large"),
    )
    with pytest.raises(ValueError, match="no model sizes are named 'huge'; known: tiny, minilm"):
        sizes.named("huge")


@pytest.mark.parametrize("name", ["gpt", "heads", "bert.x", "..bert", "", None])
def test_an_unknown_family_lists_the_known(name):
    with pytest.raises(
        ValueError,
        match=r"is not supported; known: bert, deberta-v2, distilbert, electra, lstm, modernbert, mpnet, roberta, xlm-",
    ):
        contract.family(name)


def test_a_family_says_what_its_models_cannot_do():
    told = {"model_type": "mpnet", "vocab_size": 40, "pad_token_id": 0}
    with pytest.raises(ValueError, match="pad_token_id 0 is not supported: MPNet has 1 built in"):
        FAMILIES["mpnet"].read_config(told)
    with pytest.raises(ValueError, match="relative_attention_num_buckets: expected a whole number, 32 to 32"):
        FAMILIES["mpnet"].read_config({**told, "pad_token_id": 1, "relative_attention_num_buckets": 16})
    for name in ("distilbert", "electra", "modernbert"):
        with pytest.raises(
            ValueError, match=f"pooling 'pooler' is not supported: {name} models have no pooler; use 'm"
        ):
            dataclasses.replace(tiny(FAMILIES[name]), pooling="pooler")
    for name, config in (("distilbert", "dim"), ("electra", "embedding_size")):
        with pytest.raises(ValueError, match=f"{config}: expected a whole number, 1 to"):
            FAMILIES[name].read_config({"model_type": name, config: None})


# A bag of words with linear layers: not a transformer, its own config, one head.
TOY = """
import dataclasses

from flax import linen as nn

from codir_jax.models import hf_keys, layer_selection
from codir_jax.models.contract import Family
from codir_jax.models.heads import head_spec
from codir_jax.models.layers import dense, embed
from codir_jax.models.outputs import EncoderOutput


@dataclasses.dataclass(frozen=True)
class ToyConfig:
    vocab_size: int
    pad_token_id: int
    num_layers: int = 2
    hidden_size: int = 4
    family: str = "toy-bag"
    max_length: int = 10
    initializer_range: float = 0.02
    hidden_dropout: float = 0.0
    classifier_dropout: float | None = None
    dropout_before_pooler: bool = False
    classifier_act: str = "tanh"
    classifier_pooling: str = "cls"
    classifier_norm: bool = False
    head_bias: bool = True
    in_words: str = "a few layers"


class Toy(nn.Module):
    config: ToyConfig
    dtype: object
    remat: str

    @nn.compact
    def __call__(self, input_ids, attention_mask, token_type_ids, *, words=None, deterministic=True):
        c = self.config
        states = [embed(c, c.vocab_size, "vocab", "word", self.dtype)(input_ids)]
        for i in range(c.num_layers):
            states.append(dense(c, c.hidden_size, ("embed", "mlp"), f"layer_{i}", self.dtype)(states[-1]))
        return EncoderOutput(hidden_states=tuple(states))


def keys(config, head):
    found = {("encoder", "word", "embedding"): hf_keys.HfKey("toy.word", False)}
    for i in range(config.num_layers):
        found |= hf_keys.linear(("encoder", f"layer_{i}"), f"toy.layer.{i}")
    return found | hf_keys.head_keys(head_spec(head).weights(config), {})


def write(config):
    return {"model_type": "toy-bag", "rows": config.vocab_size, "pad": config.pad_token_id, "depth": config.num_layers,
            "width": config.hidden_size}


FAMILY = Family(
    name="toy-bag",
    title="Toy",
    sizes={"toy-small": ToyConfig(50, 0)},
    from_scratch=ToyConfig,
    read_config=lambda hf: ToyConfig(hf["rows"], hf["pad"], hf["depth"], hf["width"]),
    write_config=write,
    keys=keys,
    prefix="toy.",
    tied={},
    class_prefix="Toy",
    encoder=Toy,
    shrink={"layers": layer_selection.shrink},
    flops=lambda config, seq_len: 2.0 * seq_len * config.num_layers * config.hidden_size**2,
    heads=("classification",),
)
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A family added by one file."""
    folder = tmp_path / "more_models"
    folder.mkdir()
    (folder / "toy_bag.py").write_text(TOY)
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(folder)])
    yield contract.family("toy-bag")
    del sys.modules["codir_jax.models.toy_bag"], models.toy_bag


def test_one_file_adds_a_family_that_reads_writes_shrinks_and_counts(toy, tmp_path):
    assert contract.families().keys() == {*FAMILIES, "toy-bag"}
    check_round_trip(toy, "classification", tmp_path / "model")
    check_shrink(toy, "classification")
    check_flops(toy)
    small = sizes.named("toy-small")
    assert cost.model_flops(small, 6, cost.Outputs(2)) == 2 * 6 * 2 * 16 + 2 * 16 + 2 * 4 * 2
    ids = np.ones((1, 3), np.int32)
    output = build_model(small).apply({"params": fresh(small, "classification", 2)}, ids, ids, ids)
    assert output.logits.shape == (1, 2)
    with pytest.raises(ValueError, match="Toy models have no head 'masked_lm'; known: classification"):
        build_model(small, "masked_lm")


def test_a_family_that_does_not_count_is_not_modelled(toy, monkeypatch):
    monkeypatch.setattr(sys.modules["codir_jax.models.toy_bag"], "FAMILY", toy._replace(flops=None))
    assert cost.model_flops(sizes.named("toy-small"), 6, cost.Outputs(2)) is None


def test_two_families_cannot_name_the_same_sizes(toy, monkeypatch):
    twice = toy._replace(sizes={"minilm": toy.sizes["toy-small"]})
    monkeypatch.setattr(sys.modules["codir_jax.models.toy_bag"], "FAMILY", twice)
    with pytest.raises(ValueError, match="family toy-bag names sizes that another family has: minilm"):
        sizes.names()


class Span(nn.Module):
    """Where an answer begins and ends."""

    config: object

    def setup(self):
        self.encoder = contract.family(self.config.family).encoder(self.config, jnp.float32, "none")
        self.ends = dense(self.config, 2, ("embed", "classes"), None, jnp.float32)

    def __call__(self, input_ids, attention_mask, token_type_ids):
        states = self.encoder(input_ids, attention_mask, token_type_ids).hidden_states
        return ModelOutput(logits=self.ends(states[-1]), hidden_states=states)


@pytest.mark.parametrize("name", [name for name in FAMILIES if not FAMILIES[name].heads])
def test_one_entry_adds_a_head(name, monkeypatch, tmp_path):
    spec = HEADS["masked_lm"]._replace(
        build=lambda config, num_labels, dtype, remat: Span(config),
        weights=lambda config: {"ends": "linear"},
        architecture="ForQuestionAnswering",
        flops=lambda config, count: 2.0 * count * config.hidden_size * 2,
    )
    monkeypatch.setitem(heads.HEADS, "span", spec)
    check_round_trip(FAMILIES[name], "span", tmp_path)
    check_shrink(FAMILIES[name], "span")
    config = tiny(FAMILIES[name])
    outputs = cost.Outputs(num_predictions=5, head="span")
    assert cost.model_flops(config, 5, outputs) == FAMILIES[name].flops(config, 5) + 2 * 5 * 8 * 2
