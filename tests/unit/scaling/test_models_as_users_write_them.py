"""Plans of models as people write them: what each tensor is told to be, what is left as it is, and what is refused in a sentence."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn.utils import parametrizations  # noqa: E402

from tunewright import scaling  # noqa: E402
from tunewright.errors import ConfigError  # noqa: E402
from tunewright.scaling.checking import made_up, usual_loss  # noqa: E402
from tunewright.scaling.coordinates import Coordinates  # noqa: E402


class Parts(nn.Module):
    """Holds what it is given, under names."""

    def __init__(self, **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)


def planned(build: Callable[[int], nn.Module], rule: str = "mup", **more: Any) -> scaling.Plan:
    """The plan of a model four times its base."""
    torch.manual_seed(0)
    return scaling.plan(rule, build(128), build(32), **more)


def roles(plan: scaling.Plan) -> dict[str, str]:
    return {n: e.role for n, e in plan.entries.items()}


def test_convolutions_of_every_kind() -> None:
    plan = planned(
        lambda w: Parts(
            depthwise=nn.Conv2d(w, w, 3, groups=w, bias=False),
            depthwise_back=nn.ConvTranspose2d(w, w, 3, groups=w, bias=False),
            grouped=nn.Conv2d(w, w, 3, groups=4, bias=False),
            grouped_back=nn.ConvTranspose2d(w, w, 3, groups=4, bias=False),
            into=nn.ConvTranspose2d(8, w, 3, bias=False),
            out=nn.ConvTranspose2d(w, 3, 3, bias=False),
        )
    )
    assert roles(plan) == {
        "depthwise.weight": "input",
        "depthwise_back.weight": "input",
        "grouped.weight": "hidden",
        "grouped_back.weight": "hidden",
        "into.weight": "input",
        "out.weight": "output",
    }
    e = plan.entries
    assert [m.module for m in plan.multipliers] == ["out"]
    assert e["grouped_back.weight"].fan_in == e["grouped.weight"].fan_in == 32 * 9
    assert e["grouped_back.weight"].lr == 0.25
    assert e["depthwise_back.weight"].lr == 1.0


def test_a_growing_kernel_is_said_to_be_one() -> None:
    with pytest.raises(ConfigError, match=r"kernels that grow: c.weight \[8, 8, 7, 7\]"):
        scaling.plan("mup", Parts(c=nn.Conv2d(8, 8, 7)), Parts(c=nn.Conv2d(8, 8, 3)))


def test_norms_over_several_dimensions_are_gains_not_readouts() -> None:
    plan = planned(lambda w: Parts(norm=nn.LayerNorm((5, w)), other=nn.GroupNorm(4, w)))
    assert set(roles(plan).values()) == {"vector"}
    assert {e.lr for e in plan.entries.values()} == {1.0}


def test_rows_of_a_table_are_picked_not_summed() -> None:
    """Places and vocabularies may grow with the width, and are no fan-in."""
    plan = planned(
        lambda w: Parts(places=nn.Embedding(w // 2, w), words=nn.Embedding(w, 16), bag=nn.EmbeddingBag(9, w))
    )
    assert roles(plan) == {"places.weight": "input", "words.weight": "scalar", "bag.weight": "input"}
    assert [plan.entries[n].std for n in ("places.weight", "words.weight")] == [1.0, 1.0]
    assert plan.multipliers == ()


def test_bilinear_layers_sum_over_both_inputs() -> None:
    plan = planned(lambda w: Parts(both=nn.Bilinear(w, w, w), one=nn.Bilinear(5, w, 3)))
    both, one = plan.entries["both.weight"], plan.entries["one.weight"]
    assert (both.role, both.fan_in, both.lr) == ("hidden", 128 * 128, 1 / 16)
    assert both.std == pytest.approx((3 * 32) ** -0.5 / 4)
    assert one.role == "output"
    assert [(m.module, m.factor) for m in plan.multipliers] == [("one", 0.25)]


def test_experts_in_one_tensor_are_matrices() -> None:
    plan = planned(
        lambda w: Parts(
            up=nn.Parameter(torch.randn(4, w, 2 * w)), down=nn.Parameter(torch.randn(4, 2 * w, w))
        )
    )
    for e in plan.entries.values():
        assert (e.role, e.in_growth, e.out_growth, e.lr) == ("hidden", 4.0, 4.0, 0.25)


def test_sides_that_grow_differently_are_taken_as_a_linear_layer_has_them_and_said_to_be() -> None:
    plan = scaling.plan(
        "mup",
        Parts(mix=nn.Parameter(torch.randn(64, 512))),
        Parts(mix=nn.Parameter(torch.randn(32, 64))),
        optimizer="sgd",
    )
    e = plan.entries["mix"]
    assert (e.in_growth, e.out_growth) == (8.0, 2.0)
    assert any("outputs first and its inputs last" in n for n in plan.notes)


@pytest.mark.parametrize("shape", [(4, 128), (128, 4), (128,)])
def test_a_role_that_is_given_goes_by_the_side_that_grows(shape: tuple[int, ...]) -> None:
    """A readout of one's own may be stored either way round."""
    small = tuple(32 if n == 128 else n for n in shape)
    plan = scaling.plan(
        "mup",
        Parts(a=nn.Parameter(torch.randn(shape))),
        Parts(a=nn.Parameter(torch.randn(small))),
        roles={"a": "output"},
    )
    e = plan.entries["a"]
    assert (e.in_growth, e.out_growth, e.fan_in) == (4.0, 1.0, 128)
    assert e.lr == 0.25  # nothing carries its factor, so it is in the rate and in the values


def test_a_vector_is_not_hidden() -> None:
    with pytest.raises(ConfigError, match="two sides that grow"):
        planned(lambda w: Parts(a=nn.Parameter(torch.randn(w))), roles={"a": "hidden"})


def test_adapters_of_low_rank() -> None:
    """Down: sums over the width; up: puts it out; the frozen matrix beside them keeps its values."""

    def build(width: int) -> nn.Module:
        frozen = nn.Linear(width, width).requires_grad_(False)
        return Parts(w=frozen, down=nn.Linear(width, 4, bias=False), up=nn.Linear(4, width, bias=False))

    plan = planned(build)
    assert roles(plan) == {
        "w.bias": "vector",
        "w.weight": "hidden",
        "down.weight": "output",
        "up.weight": "input",
    }
    assert plan.entries["w.weight"].frozen
    model = build(128)
    before = model.get_parameter("w.weight").clone()
    plan.init_(model)
    assert torch.equal(model.get_parameter("w.weight"), before)
    assert "w.weight" not in plan.rates(1.0)


def recurrent(kind: Any, **more: Any) -> Callable[[int], nn.Module]:
    return lambda w: Parts(r=kind(9, w, 2, **more), out=nn.Linear(w, 3))


@pytest.mark.parametrize(
    "build",
    [
        recurrent(nn.LSTM),
        recurrent(nn.GRU, bidirectional=True),
        recurrent(nn.RNN),
        lambda w: Parts(r=nn.LSTMCell(9, w)),
    ],
)
def test_gates_of_recurrent_layers(build: Any) -> None:
    for name, e in planned(build).entries.items():
        if name.startswith("r.weight"):
            first = "ih_l0" in name or name == "r.weight_ih"
            assert (e.role, e.lr) == (("input", 1.0) if first else ("hidden", 0.25)), name
        elif name.startswith("r.bias"):
            assert (e.role, e.start) == ("vector", "normal"), name


# ---------------------------------------------------------------------- values that are no noise


class Patterned(nn.Module):
    """A temperature, gates that begin open, steps of time, an identity, a table of waves; and a bias that is noise."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(2.6593))
        self.gates = nn.LSTM(9, width)
        with torch.no_grad():
            self.gates.bias_ih_l0.zero_()[width : 2 * width] = 1.0
        self.decay = nn.Parameter(torch.log(torch.arange(1.0, width + 1)))
        self.same = nn.Linear(width, width)
        nn.init.eye_(self.same.weight)
        self.waves = nn.Parameter(
            torch.sin(torch.outer(torch.arange(16.0), 10 ** -torch.linspace(0, 3, width)))[None]
        )
        self.noise = nn.Linear(width, 1)


@pytest.mark.parametrize("rule", ["sp", "mup", "sp-layerwise", "ntk"])
def test_first_values_that_are_no_noise_are_left_alone(rule: str) -> None:
    model = Patterned(64)
    plan = scaling.plan(rule, model, Patterned(32))
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    plan.init_(model)
    kept = {"temperature", "gates.bias_ih_l0", "decay", "waves", "same.weight"}
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]) == (name in kept), name
        assert any(n.startswith(f"{name}:") for n in plan.notes) == (name in kept), name


def test_what_is_left_alone_cannot_carry_a_factor() -> None:
    with pytest.raises(ConfigError, match="waves stays as the model sets it, so its factor of"):
        scaling.plan("mup-abc", Patterned(64), Patterned(32))


def test_noise_is_drawn_anew_whatever_its_seed_and_size() -> None:
    """The bound is five standard errors: of some hundred layers none is taken for a pattern."""
    torch.manual_seed(3)
    for width in (2, 8, 33):
        layers = {f"l{i}": nn.Linear(width, width + i % 3) for i in range(40)}
        found = scaling.shapes(Parts(**layers, e=nn.Embedding(50, width), c=nn.Conv1d(3, width, 3))).weights
        assert not [n for n, w in found.items() if w.patterned]


def test_rows_of_padding_stay_zero() -> None:
    def build(width: int) -> nn.Module:
        return Parts(e=nn.Embedding(9, width, padding_idx=4))

    model = build(64)
    scaling.plan("mup", model, build(32)).init_(model)
    table = model.get_parameter("e.weight")
    assert not table[4].any()
    assert table[3].all()


# ---------------------------------------------------------------------- weights made of others


def old(layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nn.utils.weight_norm(layer)


@pytest.mark.parametrize(
    "normal",
    [parametrizations.weight_norm, parametrizations.spectral_norm, old, torch.nn.utils.spectral_norm],
)
def test_normalized_weights_are_refused_unless_their_roles_are_given(normal: Any) -> None:
    def build(width: int) -> nn.Module:
        return Parts(
            a=normal(nn.Linear(7, width)), b=normal(nn.Linear(width, width)), c=normal(nn.Linear(width, 3))
        )

    with pytest.raises(ConfigError, match="normalized before they are used") as error:
        planned(build)
    assert "b.bias" not in str(error.value)
    asked: Any = {
        "*original0": "vector",
        "*weight_g": "vector",
        "a.*": "input",
        "b.*": "hidden",
        "c.*": "output",
    }
    model = build(128)
    names = [n for n, _ in model.named_parameters()]
    asked = {k: v for k, v in asked.items() if k[0] != "*" or any(n.endswith(k[1:]) for n in names)}
    asked = {"*.bias": "vector", **asked}
    plan = scaling.plan("mup", model, build(32), roles=asked)
    gains = [n for n in names if n.endswith(("original0", "weight_g"))]
    before = {n: model.get_parameter(n).clone() for n in gains}
    plan.apply_(model)
    assert ("c", 0.25) in [(m.module, m.factor) for m in plan.multipliers]
    for name in gains:
        assert torch.equal(model.get_parameter(name), before[name])


def test_reparametrized_names_are_known_only_where_something_is_made_of_them() -> None:
    plan = planned(lambda w: Parts(proj_g=nn.Linear(w, w), weight_v=nn.Parameter(torch.zeros(1, w))))
    assert roles(plan) == {"proj_g.bias": "vector", "proj_g.weight": "hidden", "weight_v": "vector"}


# ---------------------------------------------------------------------- ties, frozen parts, other models


class Tied(nn.Module):
    def __init__(self, width: int, *, untied: bool = False) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(50, width), nn.Linear(width, 50, bias=False)
        if not untied:
            self.head.weight = self.words.weight


@pytest.mark.parametrize(
    ("rule", "optimizer", "what"),
    [
        ("u-mup", "adamw", "two rates"),
        ("sp-layerwise", "adamw", "two rates"),
        ("second-order", "kfac", "two deviations"),
    ],
)
def test_a_tied_tensor_needs_one_rate_and_one_start(rule: str, optimizer: Any, what: str) -> None:
    with pytest.raises(
        ConfigError, match=f"words.weight and head.weight are one tensor and {rule} has {what}"
    ):
        planned(Tied, rule, optimizer=optimizer)


def test_a_tensor_tied_to_a_module_that_is_not_known_needs_a_role_there() -> None:
    def build(width: int) -> nn.Module:
        model = Parts(words=nn.Embedding(50, width))
        model.reader = Parts(table=model.words.weight)
        return model

    with pytest.raises(ConfigError, match=r"these 1 belong to no known kind.*reader.table"):
        planned(build)
    assert planned(build, roles={"reader.table": "input"}).entries["words.weight"].tied == ("reader.table",)


def test_ties_are_part_of_what_a_plan_fits() -> None:
    with pytest.raises(ConfigError, match="differs in head.weight"):
        planned(Tied).init_(Tied(128, untied=True))
    with pytest.raises(ConfigError, match=r"differs in (head|words).weight"):
        planned(lambda w: Tied(w, untied=True)).init_(Tied(128))


def test_a_layer_used_twice_gets_its_factor_once() -> None:
    def build(width: int) -> nn.Module:
        layer = nn.Linear(width, 3)
        return Parts(inner=Parts(layer=layer), again=Parts(layer=layer))

    model = build(128)
    plan = scaling.plan("mup", model, build(32))
    plan.apply_(model)
    plan.attach_(model)
    layer: Any = model.get_submodule("inner.layer")
    x = torch.ones(1, 128)
    assert torch.allclose(layer(x), nn.functional.linear(x / 4, layer.weight, layer.bias))


def test_freezing_between_plan_and_use_is_not_passed_over() -> None:
    torch.manual_seed(0)
    model, base = (
        nn.Sequential(nn.Linear(4, 64), nn.Linear(64, 3)),
        nn.Sequential(nn.Linear(4, 32), nn.Linear(32, 3)),
    )
    plan = scaling.plan("mup", model, base)
    model[0].requires_grad_(False)
    with pytest.raises(ConfigError, match=r"0\.weight has been frozen since|0\.bias has been frozen since"):
        plan.init_(model)
    frozen = scaling.plan("mup", model, base)
    frozen.init_(model)
    model[0].requires_grad_(True)
    with pytest.raises(ConfigError, match="was frozen then and has no rate"):
        frozen.param_groups(0.1)


@pytest.mark.parametrize("wrong", [nn.Linear, None, "model"])
def test_a_plan_is_for_modules(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"applied to a torch.nn.Module"):
        planned(lambda w: nn.Linear(4, w)).apply_(wrong)


def test_a_base_with_values_that_are_not_finite_is_refused() -> None:
    def broken(width: int) -> nn.Module:
        model = nn.Linear(4, width)
        with torch.no_grad():
            model.weight[0, 0] = float("nan")
        return model

    with pytest.raises(ConfigError, match="First values of the base must be finite; those of weight are not"):
        scaling.plan("mup", nn.Linear(4, 64), broken(32))
    model = broken(64)  # memory that was never written may hold anything
    scaling.plan("mup", model, nn.Linear(4, 32)).init_(model)
    assert bool(torch.isfinite(model.get_parameter("weight")).all())


def test_a_base_without_values_is_said_to_be_one() -> None:
    with torch.device("meta"):
        base = nn.Linear(4, 32)
    assert any("has no values" in n for n in scaling.plan("mup", nn.Linear(4, 64), base).notes)


# ---------------------------------------------------------------------- attention


class CausalAttention(nn.Module):
    def __init__(self, width: int, **layers: nn.Module) -> None:
        super().__init__()
        self.num_heads, self.out_proj = 4, nn.Linear(width, width)
        for name, layer in layers.items():
            setattr(self, name, layer)


def test_attention_whose_queries_are_not_found_is_named() -> None:
    plan = planned(lambda w: CausalAttention(w, mystery=nn.Linear(w, 3 * w)))
    assert any("What makes the queries of CausalAttention was not found" in n for n in plan.notes)
    silent = planned(lambda w: CausalAttention(w, mystery=nn.Linear(w, 3 * w)), "sp-no-alignment")
    assert not silent.notes
    packed = planned(lambda w: CausalAttention(w, qkv=nn.Linear(w, 3 * w)))
    assert [(m.module, m.where, m.factor) for m in packed.multipliers] == [("qkv", "first third", 0.5)]
    assert any("all queries, then all keys" in n for n in packed.notes)
    grouped = planned(lambda w: CausalAttention(w, qkv=nn.Linear(w, 2 * w)))  # fewer keys than queries
    assert any("was not found" in n for n in grouped.notes)
    found = planned(lambda w: CausalAttention(w, Wq=nn.Linear(w, w)))
    assert [(m.module, m.factor) for m in found.multipliers] == [("Wq", 0.5)]


@pytest.mark.parametrize("more", [{"add_bias_kv": True}, {"add_zero_attn": True}, {"kdim": 12, "vdim": 20}])
def test_logits_of_pytorchs_attention_with_keys_of_every_kind(more: dict[str, Any]) -> None:
    model = nn.MultiheadAttention(64, 4, batch_first=True, **more)
    base = nn.MultiheadAttention(16, 4, batch_first=True, **more)
    plan = scaling.plan("mup", model, base)
    plan.init_(model)
    g = torch.Generator().manual_seed(0)
    q = torch.randn(1, 5, 64, generator=g)
    k, v = (torch.randn(1, 6, more.get(d, 64), generator=g) for d in ("kdim", "vdim"))
    _, expected = model(q / 2, k, v)  # biases are zero at the start
    plan.attach_(model)
    _, weights = model(q, k, v)
    assert torch.allclose(weights, expected, atol=1e-6)


def test_depth_needs_the_branches_of_every_block_that_is_added() -> None:
    """Blocks of a known class beside blocks of one's own: half of the branches would go unscaled."""

    def build(depth: int) -> nn.Module:
        known = nn.ModuleList(nn.TransformerEncoderLayer(16, 2, 16) for _ in range(depth))
        own = nn.ModuleList(nn.Sequential(nn.Linear(16, 16)) for _ in range(depth))
        return Parts(known=known, own=own)

    with pytest.raises(ConfigError, match=r"none was found around own\.0\.0\.bias"):
        scaling.plan("depth-mup", build(8), build(2))
    named = {f"own.{i}.0": f"own.{i}" for i in range(8)}
    plan = scaling.plan("depth-mup", build(8), build(2), branches=named)
    assert {m.factor for m in plan.multipliers} == {0.5}
    assert len(plan.multipliers) == 24


# ---------------------------------------------------------------------- checks of such models


class Reader(nn.Module):
    """Reads by the weight of its readout, without calling it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inlet, self.head = nn.Linear(4, width), nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(self.inlet(x), self.head.weight)


def test_a_check_warns_of_a_factor_that_is_lost() -> None:
    family = scaling.Family(Reader, base={"width": 16})
    with pytest.warns(scaling.ScalingWarning, match="multiplies at head, which the forward pass never calls"):
        scaling.coordinate_check(family, "mup", made_up(Reader(16)), sizes=(16, 32), seeds=(0,), steps=1)


def seen(changes: Any) -> Coordinates:
    """A check with one module, of changes by size and seed."""
    last = np.asarray(changes, dtype=float)[:, :, None, None]
    return Coordinates("mup", "adam", 0.1, "width", (16, 32, 64), ("m",), np.ones((3, 2, 2, 1)), last)


def test_a_module_that_moves_at_some_sizes_only_is_not_passed_over() -> None:
    some = seen([[1.0, 1.0], [1.0, 1.0], [0.0, 1.0]])
    assert not some.passed
    assert "changes at some sizes and not at all at others" in some.why
    assert seen([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]).slopes == {"m": 0.0}  # dead with one seed
    assert seen(np.zeros((3, 2))).slopes == {}


def test_a_sweep_takes_its_rates_from_the_plan_of_a_wrapped_model() -> None:
    family = scaling.Family(
        lambda width: nn.Sequential(nn.Linear(4, width), nn.Linear(width, 3)), base={"width": 8}
    )

    def build(seed: int) -> nn.Module:
        return family.build("mup", seed, optimizer="adam", width=32)[0]

    def wrapped(seed: int) -> nn.Module:
        outer: nn.Module = torch.compile(build(seed), backend="eager")
        return outer

    plan = family.plan("mup", optimizer="adam", width=32)
    more: Any = {"steps": 3, "plan": plan}
    found = [
        scaling.sweep(b, (0.01, 0.1), (0,), made_up(build(0)), usual_loss, **more).losses
        for b in (build, wrapped)
    ]
    assert np.allclose(found[0], found[1], rtol=1e-5)
    other = family.plan("mup", optimizer="adam", width=64)
    with pytest.raises(ConfigError, match="no entry for"):
        scaling.sweep(
            lambda _: Parts(odd=Reader(8)), (0.1,), (0,), made_up(build(0)), usual_loss, steps=1, plan=other
        )


@pytest.mark.parametrize("value", [0, -1, 1.5, "64", True, float("nan"), None])
def test_sizes_are_whole_numbers(value: Any) -> None:
    with pytest.raises(ConfigError, match="width must be a whole number of at least 1"):
        scaling.Family(Reader, base={"width": value})


def test_a_family_that_cannot_be_had_at_twice_its_base_is_compared_with_the_target() -> None:
    sizes = {8: 8, 32: 32}
    family = scaling.Family(lambda width: Reader(sizes[width]), base={"width": 8})
    assert family.plan("mup", width=32).entries["head.weight"].multiplier == 0.25
