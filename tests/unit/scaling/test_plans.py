"""Plans: roles, tables of the papers, layers of other libraries, and what users get wrong."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch import nn

from tunewright import scaling
from tunewright.bench.micro import CharTransformer, ConvNet, Mlp, ResidualMlp
from tunewright.errors import ConfigError
from tunewright.scaling import multipliers
from tunewright.scaling.tensors import modules_of, parameters_of


def mlp_plan(name: str = "mup", width: int = 128, **more: Any) -> scaling.Plan:
    return scaling.Family(Mlp, base={"width": 32}).plan(name, width=width, **more)


def test_mup_is_table_8_of_its_paper_with_adam() -> None:
    plan = mlp_plan(optimizer="adam")
    e = plan.entries
    assert [e[f"{n}.weight"].role for n in ("inlet", "hidden.0", "outlet")] == ["input", "hidden", "output"]
    assert (e["inlet.weight"].lr, e["hidden.0.weight"].lr, e["outlet.weight"].lr) == (1.0, 0.25, 1.0)
    assert e["hidden.0.weight"].std == pytest.approx((3 * 128) ** -0.5)
    assert e["inlet.weight"].std == pytest.approx((3 * 64) ** -0.5)
    assert e["outlet.weight"].std == pytest.approx((3 * 32) ** -0.5), "as at the base"
    assert plan.multipliers == (scaling.Multiplier("outlet", "input", 0.25),)
    assert e["hidden.0.bias"].std == pytest.approx((3 * 32) ** -0.5)
    assert e["outlet.bias"].role == "scalar"


def test_mup_is_table_8_of_its_paper_with_sgd() -> None:
    e = mlp_plan(optimizer="sgd").entries
    assert {n: e[n].lr for n in ("inlet.weight", "inlet.bias", "hidden.0.weight", "outlet.weight")} == {
        "inlet.weight": 4.0,
        "inlet.bias": 4.0,
        "hidden.0.weight": 1.0,
        "outlet.weight": 4.0,
    }


def test_folded_mup_is_table_3_of_its_paper() -> None:
    """Output: deviation one over the fan-in, Adam's rate one over the fan-in, SGD's the same as at the base."""
    adam, sgd = (mlp_plan(optimizer=o, form="folded").entries["outlet.weight"] for o in ("adam", "sgd"))
    assert adam.std == sgd.std == pytest.approx((3 * 32) ** -0.5 / 4)
    assert adam.lr == pytest.approx(0.25)
    assert sgd.lr == pytest.approx(0.25)


def test_decay_takes_the_same_share_in_every_layer() -> None:
    for group in mlp_plan().param_groups(0.01, 0.1, model=Mlp(width=128)):
        assert group["lr"] * group["weight_decay"] == pytest.approx(0.001)


def test_tied_embeddings_have_one_rate_and_a_multiplier_where_they_are_read() -> None:
    def tied(width: int) -> nn.Module:
        model = CharTransformer(width=width, bias=False)
        model.outlet.weight = model.letters.weight
        return model

    plan = scaling.plan("mup", tied(64), tied(32))
    assert plan.entries["letters.weight"].tied == ("outlet.weight",)
    assert "outlet.weight" not in plan.entries
    assert plan.multipliers == (scaling.Multiplier("outlet", "input", 0.5),)
    with pytest.raises(ConfigError, match="tied to letters.weight"):
        scaling.plan("mup", tied(64), tied(32), form="folded")
    with pytest.raises(ConfigError, match="two rates"):
        scaling.plan("sp-layerwise", tied(64), tied(32))


def test_frozen_tensors_keep_their_values_and_get_no_rate() -> None:
    model, base = Mlp(width=64), Mlp(width=32)
    model.hidden[0].weight.requires_grad_(False)
    before = model.hidden[0].weight.clone()
    plan = scaling.plan("mup", model, base)
    plan.apply_(model)
    assert torch.equal(before, model.hidden[0].weight)
    assert "hidden.0.weight" not in [n for g in plan.param_groups(0.1) for n in g["names"]]
    assert "hidden.0.weight is frozen" in plan.notes[0]


def test_heads_that_grow_get_logits_over_their_size() -> None:
    def model(width: int) -> nn.Module:
        return CharTransformer(width=width, heads=2)

    plan = scaling.plan("mup", model(128), model(32))
    assert [m for m in plan.multipliers if "query" in m.module] == [
        scaling.Multiplier("blocks.0.0.branch.1.query", "output", 0.5),
        scaling.Multiplier("blocks.1.0.branch.1.query", "output", 0.5),
    ]


def layer(width: int, **more: Any) -> nn.Module:
    return nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True, **more)


def test_pytorchs_own_transformer_layer_is_scaled_in_training_and_in_fused_inference() -> None:
    """PyTorch has a fused path for inference that calls none of the layer's modules."""
    model, base = layer(64), layer(16)
    plan = scaling.plan("mup", model, base, tuned=scaling.Tuned(residual=0.5))
    plain_out = copy.deepcopy(plan.init_(model)).eval()(torch.ones(1, 3, 64))
    plan.attach_(model)
    x = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(0))
    trained = model.train()(x)
    with torch.no_grad():
        assert torch.allclose(model.eval()(x), trained, atol=1e-6)
    assert not torch.allclose(model(torch.ones(1, 3, 64)), plain_out, atol=1e-3)
    assert scaling.Multiplier("self_attn", "logits", 0.5) in plan.multipliers


def test_attention_logits_of_pytorchs_module_are_what_the_rule_says() -> None:
    """With a head four times that of the base, the weights of attention follow q k / d, not over its root; biases as well."""
    attention = nn.MultiheadAttention(64, 4, batch_first=True)
    plan = scaling.plan("mup", attention, nn.MultiheadAttention(16, 4, batch_first=True))
    plan.apply_(attention)
    g = torch.Generator().manual_seed(0)
    x = torch.randn(1, 5, 64, generator=g)
    with torch.no_grad():
        attention.in_proj_bias.copy_(torch.randn(192, generator=g))
    _, weights = attention(x, x, x, average_attn_weights=False)
    made = x @ attention.in_proj_weight.T + attention.in_proj_bias
    q, k, _ = made.view(1, 5, 3, 4, 16).permute(2, 0, 3, 1, 4)
    expected = torch.softmax(
        q @ k.transpose(-1, -2) / 16 * 2, dim=-1
    )  # over d, and as at the base, where d is 4
    assert torch.allclose(weights, expected, atol=1e-6)
    _, named = attention(query=x, key=x, value=x, average_attn_weights=False)
    assert torch.equal(named, weights)


def test_two_compiled_models_of_one_class_keep_their_own_factors() -> None:
    torch.compiler.reset()
    family = scaling.Family(Mlp, base={"width": 16})
    x = torch.ones(1, 64)
    for width in (16, 32, 64, 32):
        model, _ = family.build("mup", width=width)
        assert torch.allclose(torch.compile(model, backend="eager")(x), model(x), atol=1e-6)


def test_a_model_with_factors_can_be_pickled_whole() -> None:
    model, _ = scaling.Family(Mlp, base={"width": 16}).build("mup", width=32)
    again = pickle.loads(pickle.dumps(model))
    x = torch.ones(1, 64)
    assert torch.equal(again(x), model(x))
    assert isinstance(again.outlet, nn.Linear)


class Reader(nn.Module):
    """Uses the weight of its readout without calling it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inlet, self.head = nn.Linear(4, width), nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(self.inlet(x), self.head.weight)


def test_factors_that_no_forward_pass_reaches_are_found() -> None:
    model = Reader(64)
    scaling.plan("mup", model, Reader(32)).apply_(model)
    assert multipliers.unreached(model, torch.ones(1, 4)) == ("head",)
    proper, _ = scaling.Family(Mlp, base={"width": 16}).build("mup", width=32)
    assert multipliers.unreached(proper, torch.ones(1, 64)) == ()


class Wrapped(nn.Module):
    """As the wrappers for parallel training: the model is all that it has."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> Any:
        return self.module(x)


class Confusing(nn.Module):
    """Has a part of its own that is called as wrappers call what they wrap."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, width))
        self.module, self.module_list = nn.Linear(7, width), nn.ModuleList([nn.Linear(width, 3)])


def test_names_are_the_same_under_wrappers() -> None:
    model = Mlp(width=8)
    names = set(parameters_of(model))
    assert names == {n for n, _ in model.named_parameters()}
    model.hidden[0] = torch.compile(model.hidden[0], backend="eager")
    wrapped = Wrapped(torch.compile(Wrapped(model), backend="eager"))
    assert set(parameters_of(wrapped)) == names
    assert modules_of(wrapped)[""] is model


def test_a_part_called_module_keeps_its_name() -> None:
    plan = scaling.plan("mup", Confusing(32), Confusing(16))
    assert list(plan.entries) == [
        "module.bias",
        "module.weight",
        "module_list.0.bias",
        "module_list.0.weight",
        "weight",
    ]
    assert plan.entries["module.weight"].shape == (32, 7)
    plan.apply_(Wrapped(Confusing(32)))


def test_convolutions_and_their_groups() -> None:
    e = scaling.plan("mup", ConvNet(width=64), ConvNet(width=16)).entries
    assert (e["first.weight"].role, e["convolutions.0.weight"].role) == ("input", "hidden")
    assert e["convolutions.0.weight"].fan_in == 64 * 9
    deep = scaling.plan("mup", ConvNet(width=64, groups=64), ConvNet(width=16, groups=16))
    assert deep.entries["convolutions.0.weight"].role == "input"
    assert "64 groups" in deep.notes[0]
    fixed = scaling.plan("mup", ConvNet(width=64, groups=4), ConvNet(width=16, groups=4))
    assert fixed.entries["convolutions.0.weight"].lr == 0.25


class Odd(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.randn(7, width))
        self.mix = nn.Parameter(torch.randn(width, 2, width))
        self.out = nn.Linear(width, 3)


def test_all_tensors_without_a_role_are_named_at_once() -> None:
    with pytest.raises(
        ConfigError, match=r"these 2 belong to no known kind.*mix \[64, 2, 64\]; place \[7, 64\]"
    ):
        scaling.plan("mup", Odd(64), Odd(32))
    plan = scaling.plan("mup", Odd(64), Odd(32), roles={"place": "input", "m*": "hidden"})
    assert plan.entries["place"].lr == 1.0
    assert plan.entries["mix"].lr == 0.5
    with pytest.raises(ConfigError, match="matches none"):
        scaling.plan("mup", Odd(64), Odd(32), roles={"plase": "input"})
    with pytest.raises(ConfigError, match="A role must be one of"):
        scaling.plan("mup", Odd(64), Odd(32), roles={"place": "inputs"})  # type: ignore[dict-item]


def test_a_model_as_large_as_its_base_needs_a_third() -> None:
    with pytest.raises(ConfigError, match="Pass delta"):
        scaling.plan("mup", Mlp(width=32), Mlp(width=32))
    plan = scaling.plan("mup", Mlp(width=32), Mlp(width=32), delta=Mlp(width=64))
    assert plan.entries["hidden.0.weight"].role == "hidden"
    assert plan.multipliers == ()
    with pytest.raises(ConfigError, match="delta must differ"):
        scaling.plan("mup", Mlp(width=64), Mlp(width=32), delta=Mlp(width=32, inputs=65))


def test_models_that_are_not_the_same_but_for_sizes() -> None:
    with pytest.raises(ConfigError, match=r"only one of them has .*bias"):
        scaling.plan("mup", Mlp(width=64), Mlp(width=32, bias=False))
    with pytest.raises(ConfigError, match="equal blocks"):
        scaling.plan(
            "mup",
            nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)),
            nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2)),
        )


def test_depth_under_a_rule_of_width_is_noted() -> None:
    family = scaling.Family(ResidualMlp, base={"width": 32, "depth": 2})
    assert "depth grows 4 times" in family.plan("mup", depth=8).notes[0]


def test_coupled_decay_with_adam_is_warned_of() -> None:
    plan = mlp_plan(optimizer="adam")
    with pytest.warns(scaling.ScalingWarning, match="Use AdamW"):
        plan.param_groups(0.1, 0.1, model=Mlp(width=128))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan.param_groups(0.1, model=Mlp(width=128))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: mlp_plan("mupp"), "Did you mean 'mup'"),
        (lambda: mlp_plan(optimizer="rmsprop"), "optimizer must be one of"),
        (lambda: mlp_plan("sp-layerwise", optimizer="kfac"), "has rates for"),
        (lambda: mlp_plan(form="hooks"), "form must be"),
        (lambda: mlp_plan().param_groups(-1.0, model=Mlp(width=128)), "number of 0 or more"),
        (lambda: mlp_plan().param_groups(1.0, float("inf")), "weight_decay must be"),
        (lambda: mlp_plan().param_groups(1.0), "Pass model"),
        (lambda: mlp_plan().init_(Mlp(width=64)), "fits only the model"),
        (lambda: scaling.Plan.from_json("{}"), "A saved plan must be"),
        (lambda: scaling.Plan.from_json("nothing"), "A saved plan must be"),
        (lambda: scaling.plan("mup", Mlp(), {"weights": 3}), "Saved shapes must be"),
        (lambda: scaling.plan("mup", Mlp, Mlp()), "Call the function"),
        (lambda: scaling.Family(Mlp, base={}), "needs the sizes"),
        (lambda: scaling.Family(Mlp, base={"width": 8}).model(depth=3), "must be one of width"),
        (lambda: scaling.Family(Mlp, base={"width": 8}).model(width=0), "at least 1"),
        (
            lambda: scaling.Family(CharTransformer, base={"width": 32}, fixed={"heads": 4}).model(width=30),
            "multiple of the heads",
        ),
        (lambda: scaling.plan("mup", nn.ReLU(), nn.ReLU()), "must have parameters"),
    ],
)
def test_mistakes_are_told_in_a_sentence(call: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        call()


def test_models_on_the_meta_device_have_plans_but_no_values() -> None:
    with torch.device("meta"):
        model, base = Mlp(width=4096), Mlp(width=64)
    plan = scaling.plan("mup", model, base)
    assert plan.entries["hidden.0.weight"].lr == 1 / 64
    with pytest.raises(ConfigError, match="to_empty"):
        plan.init_(model)


def test_a_models_own_first_values_are_measured() -> None:
    def model(width: int) -> nn.Module:
        torch.manual_seed(0)
        made = Mlp(width=width)
        nn.init.normal_(made.hidden[0].weight, std=0.02)
        nn.init.zeros_(made.outlet.weight)
        return made

    e = scaling.plan("mup", model(256), model(64)).entries
    assert e["hidden.0.weight"].std == pytest.approx(0.01, rel=0.1)
    assert e["hidden.0.weight"].start in ("normal", "uniform")
    assert (e["outlet.weight"].start, e["outlet.weight"].value) == ("constant", 0.0)


def test_the_table_says_everything() -> None:
    text = mlp_plan().table()
    assert "hidden.0.weight" in text
    assert "x 0.25" in text
    assert "times 0.25 at the input of outlet" in text


def test_gains_start_at_one_whether_the_model_has_values_or_not() -> None:
    family = scaling.Family(CharTransformer, base={"width": 16})
    plans = [family.plan("mup", width=32), family.plan("mup", width=32, model=family.model(width=32))]
    for plan in plans:
        assert plan.entries["norm.weight"].value == 1.0
        assert plan.entries["norm.bias"].value == 0.0
    assert plans[0] == plans[1]
    with torch.device("meta"):
        bare = scaling.plan("mup", CharTransformer(width=32), CharTransformer(width=16))
    assert bare.entries["norm.weight"].value == 1.0


def test_a_seed_fixes_also_what_a_plan_leaves_as_it_is() -> None:
    class Frozen(Mlp):
        def __init__(self, width: int) -> None:
            super().__init__(width=width)
            self.inlet.requires_grad_(False)

    family = scaling.Family(Frozen, base={"width": 16})
    state = torch.get_rng_state()
    first, _ = family.build("mup", 3, width=32)
    assert torch.equal(torch.get_rng_state(), state), "the user's own stream of chance is left alone"
    torch.rand(5)
    again, _ = family.build("mup", 3, width=32)
    other, _ = family.build("mup", 4, width=32)
    assert torch.equal(first.get_parameter("inlet.weight"), again.get_parameter("inlet.weight"))
    assert not torch.equal(first.get_parameter("inlet.weight"), other.get_parameter("inlet.weight"))
