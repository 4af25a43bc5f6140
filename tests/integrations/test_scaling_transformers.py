"""Plans of models from transformers: found roles, attention, branches, and the computation that they promise."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tunewright import scaling

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.slow
SMALL = {"vocab_size": 50, "num_hidden_layers": 2, "num_attention_heads": 4}


def gpt2(width: int) -> Any:
    config = transformers.GPT2Config(vocab_size=50, n_positions=32, n_embd=width, n_layer=2, n_head=4)
    config.bos_token_id = config.eos_token_id = 0
    return transformers.GPT2LMHeadModel(config)


def llama(width: int) -> Any:
    sizes = {"hidden_size": width, "intermediate_size": 2 * width, "num_key_value_heads": 2}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL, **sizes))


def bert(width: int) -> Any:
    sizes = {"hidden_size": width, "intermediate_size": 2 * width, "max_position_embeddings": 32}
    return transformers.BertForMaskedLM(transformers.BertConfig(**SMALL, **sizes))


def vit(width: int) -> Any:
    sizes = {"hidden_size": width, "intermediate_size": 2 * width, "image_size": 8, "patch_size": 4}
    layers = {k: SMALL[k] for k in ("num_hidden_layers", "num_attention_heads")}
    return transformers.ViTForImageClassification(
        transformers.ViTConfig(num_channels=1, num_labels=10, **layers, **sizes)
    )


MODELS = {
    "gpt2": (gpt2, "lm_head", 4),
    "llama": (llama, "lm_head", 4),
    "bert": (bert, "cls.predictions.decoder", 4),
    "vit": (vit, "classifier", 4),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_tensor_has_a_role_and_the_scores_their_factor(name: str) -> None:
    build, readout, ends = MODELS[name]
    plan = scaling.plan("mup", build(128), build(32), tuned=scaling.Tuned(residual=0.5))
    hung = {(m.module, m.where): m.factor for m in plan.multipliers}
    assert hung[readout, "input"] == 0.25
    assert sum(
        factor == 0.5 and where == "output" and "query" not in m for (m, where), factor in hung.items()
    ) in (
        ends,
        ends + 2,
    )
    queries = [m for (m, where), f in hung.items() if "attn" in m or "attention" in m]
    assert len([m for m in queries if "c_attn" in m or "q_proj" in m or "query" in m]) == 2
    matrices = [e for e in plan.entries.values() if e.role == "hidden"]
    assert matrices
    assert all(e.lr == 0.25 for e in matrices)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_first_values_are_those_of_the_configuration(name: str) -> None:
    build = MODELS[name][0]
    entries = scaling.plan("mup", build(128), build(32)).entries
    inside = "transformer.h.0.mlp.c_fc.weight" if name == "gpt2" else "model.layers.0.mlp.up_proj.weight"
    assert entries[inside].std == pytest.approx(0.02 / 2)
    assert entries[inside].start == "normal"


@pytest.mark.parametrize("name", MODELS)
def test_the_model_runs_with_its_plan_and_trains(name: str) -> None:
    torch.manual_seed(0)
    build = MODELS[name][0]
    model = build(64)
    plan = scaling.plan("mup", model, build(32))
    plan.apply_(model)
    optimizer = torch.optim.AdamW(plan.param_groups(0.01))
    inputs = (
        {"pixel_values": torch.randn(4, 1, 8, 8)}
        if name == "vit"
        else {"input_ids": torch.randint(50, (4, 16))}
    )
    labels = torch.randint(10, (4,)) if name == "vit" else inputs["input_ids"]
    losses = []
    for _ in range(8):
        loss = model(**inputs, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.05


def test_attention_of_gpt2_is_over_the_size_of_its_heads() -> None:
    """The factor on the first third of the packed layer is a factor on the queries alone."""
    model, base = gpt2(128), gpt2(32)
    plan = scaling.plan("mup", model, base)
    packed = model.transformer.h[0].attn.c_attn
    x = torch.randn(2, 3, 128)
    before = packed(x)
    plan.attach_(model)
    after = packed(x)
    assert torch.allclose(after[..., :128], before[..., :128] * 0.5)
    assert torch.equal(after[..., 128:], before[..., 128:])
