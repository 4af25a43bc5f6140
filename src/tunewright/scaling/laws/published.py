"""Published scaling laws as objects. Each says where its constants are from and where it holds; ``get`` finds one by name.

Where a constant could only be read in a single other use of a paper, ``confidence`` says ``"second-hand"``. Laws of which only the
exponent is known are laws of ratios: they carry a value measured by you to another size.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tunewright.errors import ConfigError
from tunewright.scaling.laws.law import (
    BASE_BATCH,
    BASE_FLOPS,
    BASE_LR,
    BASE_TOKENS,
    BATCH_SIZE,
    FLOPS,
    LEARNING_RATE,
    LOSS,
    PARAMS,
    TOKENS,
    UNIQUE,
    Box,
    Law,
    power_law,
)

CRITICAL = "critical batch size"
LOSS_OUT = "loss"
SIZE = "compute-optimal parameters"
DATA = "compute-optimal tokens"
_LI = "Li et al. 2025, Predictable Scale Part I, arXiv:2503.04715, equation 1"
_BJORCK = "Bjorck et al. 2024, Scaling Optimal LR Across Token Horizons, arXiv:2409.19913, section 4"
_PORIAN = "Porian et al. 2024, Resolving Discrepancies in Compute-Optimal Scaling, arXiv:2406.19146"
_DEEPSEEK = "DeepSeek-AI 2024, DeepSeek LLM, arXiv:2401.02954, section 3"
_SHUAI = (
    "Shuai et al. 2024, Scaling Law for Language Models Training Considering Batch Size, arXiv:2412.01505"
)
_ZHANG = "Zhang et al. 2024, How Does Critical Batch Size Scale in Pre-training?, arXiv:2410.21676"
_HORIZON_AGAINST_STEP = (
    "they disagree on the sign of the exponent of tokens: at a fixed batch the best rate falls with the horizon, in the step law it "
    "rises because the batch grows with it; use the one or the other, never a product of both"
)
_STEP_CONDITIONS = (
    "AdamW, standard parametrization, cosine decay to a fixed final rate of 1e-5",
    "learning rate and batch size of the law used together",
    "one pass over the data, sequences of 2,048 tokens",
)
_STEP_NOTE = (
    "Coefficient and exponents are not identifiable one by one: refits of the released grids with other tolerances move the coefficient "
    "from 2.6 to 92 and the exponent of tokens from .30 to .21, and predictions on the grids by a factor of 1.7 at most. Compare "
    "predictions, never coefficients."
)
_NEAR = 2.0
_STEP_BOX = {"params": (2.15e8, 1.08e9), "tokens": (4e9, 1e11)}


def _step() -> list[Law]:
    common: dict[str, Any] = {"paper": _LI, "conditions": _STEP_CONDITIONS, "note": _STEP_NOTE}
    return [
        power_law(
            name="step-law-lr",
            output=LEARNING_RATE,
            unit="peak learning rate",
            formula="1.79 N^-0.713 D^0.307",
            inputs=(PARAMS, TOKENS),
            coefficient=1.79,
            exponents={"params": -0.713, "tokens": 0.307},
            exponent_sds={"params": 0.030, "tokens": 0.019},
            scatter=0.31,
            box=Box(_STEP_BOX),
            contradicts={"token-horizon": _HORIZON_AGAINST_STEP},
            **common,
        ),
        power_law(
            name="step-law-batch",
            output=BATCH_SIZE,
            unit="tokens per step",
            formula="0.58 D^0.571",
            inputs=(TOKENS,),
            coefficient=0.58,
            exponents={"tokens": 0.571},
            exponent_sds={"tokens": 0.019},
            scatter=0.23,
            box=Box({"tokens": _STEP_BOX["tokens"]}),
            **common,
        ),
    ]


def _twenty(known: Mapping[str, float]) -> str | None:
    """Doubt of laws that hold at about twenty tokens per parameter."""
    if not {"params", "tokens"} <= set(known):
        return None
    ratio = known["tokens"] / known["params"]
    if 20 / _NEAR <= ratio <= 20 * _NEAR:
        return None
    return f"it holds at about 20 tokens per parameter, and this run has {ratio:.3g}"


def _three_billion(known: Mapping[str, float]) -> str | None:
    """Doubt of the fit over sizes at one amount of data."""
    tokens = known.get("tokens")
    if tokens is None or 3.07e9 / _NEAR <= tokens <= 3.07e9 * _NEAR:
        return None
    return f"it holds at 3.07B tokens, and this run has {tokens:.3g}"


def _ratio(exponent: float, scaled: str, base: str, anchor: str) -> Any:
    """``anchor * (scaled / base) ** exponent``, the shape of laws of which only the exponent is known."""

    def function(constants: Mapping[str, float], inputs: Mapping[str, Any]) -> Any:
        return inputs[anchor] * (inputs[scaled] / inputs[base]) ** constants["exponent"]

    return {"constants": {"exponent": exponent}, "function": function}


def _ratio_sd(sd: float, scaled: str, base: str) -> Any:
    return lambda inputs: sd * abs(float(np.log(inputs[scaled] / inputs[base])))


def _horizon() -> Law:
    return Law(
        name="token-horizon",
        paper=_BJORCK,
        output=LEARNING_RATE,
        unit="peak learning rate",
        formula="lr(D0) (D0 / D)^0.32",
        inputs=(BASE_LR, BASE_TOKENS, TOKENS),
        box=Box({"base_tokens": (2.5e10, 8e11), "tokens": (2.5e10, 8e11)}),
        conditions=(
            "fixed batch size (half a million tokens)",
            "Adam, cosine schedule",
            "models from 760M to 2.7B parameters",
        ),
        confidence="exponent only",
        spread={"exponent": 0.1},
        log_sd=_ratio_sd(0.1, "tokens", "base_tokens"),
        contradicts={
            "step-law-lr": _HORIZON_AGAINST_STEP,
            "deepseek-lr": "it adapts the batch to the compute as well; the token horizon rule holds at a fixed batch",
        },
        note="Exponents of single sizes run from .32 (760M and 1.3B) over .42 (2.7B) to .7 (50M); the interval takes a deviation of .1.",
        **_ratio(-0.32, "tokens", "base_tokens", "base_lr"),
    )


def _porian() -> list[Law]:
    common: dict[str, Any] = {
        "paper": _PORIAN,
        "inputs": (PARAMS,),
        "box": Box({"params": (5e6, 9.01e8)}),
        "conditions": (
            "compute-optimal runs, about 20 tokens per parameter",
            "AdamW with beta2 tuned (0.99 to 0.999 at small batches), RefinedWeb",
            "parameters counted with the output layer",
        ),
        "doubt": _twenty,
        "note": (
            "They give the tuned settings that the authors' released notebook lists for 16 sizes from 5M to 900M within 10 % (rates) and "
            "17 % (batches, in sequences of 2,048 tokens)."
        ),
    }
    return [
        power_law(
            name="porian-lr",
            output=LEARNING_RATE,
            unit="peak learning rate",
            formula="3.7 N^-0.36",
            coefficient=3.7,
            exponents={"params": -0.36},
            **common,
        ),
        power_law(
            name="porian-batch",
            output=BATCH_SIZE,
            unit="tokens per step",
            formula="0.7576 N^0.703",
            coefficient=0.7576,
            exponents={"params": 0.703},
            **common,
        ),
    ]


def _deepseek() -> list[Law]:
    common: dict[str, Any] = {"paper": f"{_DEEPSEEK}, equation 1", "inputs": (FLOPS,)}
    fitted: dict[str, Any] = {
        "box": Box({"flops": (1e17, 2e19)}),
        "margin": 1e5,
        "conditions": (
            "AdamW, multi-step schedule",
            "compute counted as non-embedding FLOPs per token times tokens, near the compute-optimal split",
        ),
        "note": "The authors used it up to 3e23 and 3e24 FLOPs for their 7B and 67B models, far outside of the fitted range.",
    }
    return [
        power_law(
            name="deepseek-lr",
            output=LEARNING_RATE,
            unit="peak learning rate",
            formula="0.3118 C^-0.1250",
            coefficient=0.3118,
            exponents={"flops": -0.1250},
            contradicts={
                "token-horizon": "it adapts the batch to the compute as well; the token horizon rule holds at a fixed batch"
            },
            **common,
            **fitted,
        ),
        power_law(
            name="deepseek-batch",
            output=BATCH_SIZE,
            unit="tokens per step",
            formula="0.2920 C^0.3271",
            coefficient=0.2920,
            exponents={"flops": 0.3271},
            **common,
            **fitted,
        ),
        power_law(
            name="deepseek-tokens",
            paper=f"{_DEEPSEEK}.2, equation 4",
            output=DATA,
            unit="tokens",
            formula="5.8316 C^0.4757",
            inputs=(FLOPS,),
            coefficient=5.8316,
            exponents={"flops": 0.4757},
            box=Box({"flops": (1e17, 3e20)}),
            margin=1e5,
            conditions=("DeepSeek's own data; better data moves compute from tokens to parameters",),
        ),
    ]


def _shuai() -> list[Law]:
    return [
        power_law(
            name="batch-fixed-data",
            paper=_SHUAI,
            output=BATCH_SIZE,
            unit="tokens per step",
            formula="3.24e3 D^0.264",
            inputs=(TOKENS,),
            coefficient=3.24e3,
            exponents={"tokens": 0.264},
            box=Box({"tokens": (1e9, 3e11)}),
            conditions=("a fixed amount of data, steps cost nothing", "learning rate tuned with the batch"),
            confidence="second-hand",
            note="Constants read in other people's use of the paper; not confirmed in the paper itself.",
        ),
        Law(
            name="batch-fixed-compute",
            paper=_SHUAI,
            output=BATCH_SIZE,
            unit="tokens per step",
            formula="B(C0) (C / C0)^0.102",
            inputs=(BASE_BATCH, BASE_FLOPS, FLOPS),
            box=Box({"base_flops": (1e18, 1e22), "flops": (1e18, 1e22)}),
            conditions=("a fixed compute budget, with parameters growing as C^0.464 and tokens as C^0.536",),
            confidence="exponent only",
            **_ratio(0.102, "flops", "base_flops", "base_batch"),
        ),
    ]


def _critical() -> list[Law]:
    common: dict[str, Any] = {
        "paper": _ZHANG,
        "output": CRITICAL,
        "unit": "tokens per step",
        "conditions": (
            "critical = steps 20 % above those of perfect scaling from a batch of 256 sequences",
            "Adam, constant rate with weight averaging, C4, sequences of 512 tokens",
        ),
        "note": (
            "Units are inferred: read in sequences of 512 tokens, millions of parameters and millions of tokens, its three fits agree at "
            "their common point (151M, 3.07B tokens: 961 to 999 sequences) and with the step counts in the released notebook."
        ),
    }

    def law(name: str, formula: str, c: float, e: float, key: str, **extra: Any) -> Law:
        return power_law(
            name=name,
            formula=formula,
            coefficient=c * 512 * 1e-6**e,
            exponents={key: e},
            inputs=(PARAMS if key == "params" else TOKENS,),
            **common,
            **extra,
        )

    return [
        law(
            "critical-batch-data",
            "512 x 22.91 (D/1e6)^0.47",
            22.91,
            0.47,
            "tokens",
            confidence="second-hand",
            box=Box({"tokens": (1.7e9, 2.4e10)}),
        ),
        law(
            "critical-batch-chinchilla",
            "512 x 93.20 (N/1e6)^0.47, 20 tokens per parameter",
            93.20,
            0.47,
            "params",
            doubt=_twenty,
            box=Box({"params": (8.5e7, 1.2e9)}),
        ),
        law(
            "critical-batch-size-only",
            "512 x 621.341 (N/1e6)^0.087 at 3.07B tokens",
            621.341,
            0.087,
            "params",
            doubt=_three_billion,
            box=Box({"params": (8.5e7, 1.2e9)}),
            contradicts={
                "critical-batch-chinchilla": (
                    "one holds the data at 3.07B tokens, the other lets it grow with the model; the growth is that of the data"
                )
            },
        ),
    ]


def _critical_elsewhere() -> list[Law]:
    return [
        Law(
            name="critical-batch-time",
            paper="Time Transfer: On Optimal Learning Rate and Batch Size in the Infinite Data Limit, arXiv:2410.05838",
            output=CRITICAL,
            unit="tokens per step",
            formula="B_crit(T0) (T / T0)",
            inputs=(BASE_BATCH, BASE_TOKENS, TOKENS),
            box=Box({"base_tokens": (1e8, 1e11), "tokens": (1e8, 1e11)}),
            conditions=("one pass over the data", "Adam; width may be scaled under muP without changing it"),
            confidence="exponent only",
            contradicts={
                "critical-batch-data": "it grows linearly with tokens here, and with their 0.47th power there"
            },
            **_ratio(1.0, "tokens", "base_tokens", "base_batch"),
        ),
        power_law(
            name="critical-batch-loss",
            paper="Kaplan et al. 2020, arXiv:2001.08361, equation 1.4",
            output=CRITICAL,
            unit="tokens per step",
            formula="2e8 L^(-1/0.21)",
            inputs=(LOSS,),
            coefficient=2e8,
            exponents={"loss": -1 / 0.21},
            box=Box({"loss": (2.5, 6.0)}),
            margin=1.5,
            conditions=(
                "critical = gradient noise scale, twice the fewest steps",
                "WebText2 and its tokenizer: loss is not comparable with yours",
            ),
        ),
    ]


def chinchilla(constants: Mapping[str, float], inputs: Mapping[str, Any]) -> Any:
    """``E + A / N^alpha + B / D^beta``, in nats per token."""
    c = constants
    return c["E"] + c["A"] * inputs["params"] ** -c["alpha"] + c["B"] * inputs["tokens"] ** -c["beta"]


def optimal_params(constants: Mapping[str, float], inputs: Mapping[str, Any]) -> Any:
    """Parameters with the least loss at ``flops = 6 N D``: Hoffmann et al. 2022, equation 4."""
    c = constants
    g = (c["alpha"] * c["A"] / (c["beta"] * c["B"])) ** (1 / (c["alpha"] + c["beta"]))
    return g * (inputs["flops"] / 6) ** (c["beta"] / (c["alpha"] + c["beta"]))


def optimal_tokens(constants: Mapping[str, float], inputs: Mapping[str, Any]) -> Any:
    """Tokens with the least loss at ``flops = 6 N D``."""
    return inputs["flops"] / 6 / optimal_params(constants, inputs)


def repeated(constants: Mapping[str, float], inputs: Mapping[str, Any]) -> Any:
    """Loss with ``tokens / unique_tokens`` passes over the data: Muennighoff et al. 2023, equations 5 to 8."""
    c = constants
    unique = np.minimum(inputs["unique_tokens"], inputs["tokens"])
    passes = inputs["tokens"] / unique - 1
    data = unique + unique * c["R_D"] * (1 - np.exp(-passes / c["R_D"]))
    # The parameters that the unique tokens would deserve; more of them are discounted in the same way.
    g = (c["alpha"] * c["A"] / (c["beta"] * c["B"])) ** (1 / (c["alpha"] + c["beta"]))
    deserved = (unique * g) ** (c["beta"] / c["alpha"]) * g
    used = np.minimum(deserved, inputs["params"])
    excess = inputs["params"] / used - 1
    size = used + used * c["R_N"] * (1 - np.exp(-excess / c["R_N"]))
    return c["E"] + c["A"] * size ** -c["alpha"] + c["B"] * data ** -c["beta"]


# Covariance of log E, log A - 20.56 alpha, log B - 23.55 beta, alpha and beta: our Bayesian bootstrap (2,000 fits) of the 240 points that
# Besiroglu et al. fitted. In these centered logarithms the errors are small; in A and B themselves they are huge and cancel.
_MIDDLE = (20.559283, 23.553231)
_COVARIANCE = 1e-6 * np.array(
    [
        [196.99, -432.07, -552.63, 118.90, 182.38],
        [-432.07, 3285.82, -1278.15, -843.05, 350.48],
        [-552.63, -1278.15, 4235.84, 284.29, -1329.42],
        [118.90, -843.05, 284.29, 222.17, -79.47],
        [182.38, 350.48, -1329.42, -79.47, 429.43],
    ]
)
_SCATTER = 0.0075


def _propagated(function: Any, constants: Mapping[str, float], scatter: float) -> Any:
    """Deviation of the logarithm of a prediction from the covariance above, to first order, and the scatter of runs."""
    n0, d0 = _MIDDLE
    c = constants
    at = np.array(
        [
            np.log(c["E"]),
            np.log(c["A"]) - c["alpha"] * n0,
            np.log(c["B"]) - c["beta"] * d0,
            c["alpha"],
            c["beta"],
        ]
    )

    def log_sd(inputs: Mapping[str, float]) -> float:
        def log_of(t: Any) -> float:
            moved = {
                "E": np.exp(t[0]),
                "A": np.exp(t[1] + t[3] * n0),
                "B": np.exp(t[2] + t[4] * d0),
                "alpha": t[3],
                "beta": t[4],
            }
            return float(np.log(function(moved, inputs)))

        step = 1e-5
        slope = np.array([(log_of(at + step * e) - log_of(at - step * e)) / (2 * step) for e in np.eye(5)])
        return float(np.sqrt(slope @ _COVARIANCE @ slope + scatter**2))

    return log_sd


_HOFFMANN = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
_BESIROGLU = {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}
_FITS: tuple[tuple[str, str, dict[str, float], dict[str, float], str], ...] = (
    (
        "chinchilla",
        "Besiroglu et al. 2024, Chinchilla Scaling: A Replication Attempt, arXiv:2404.10102, table 1",
        _BESIROGLU,
        {"E": 0.03, "A": 124.58, "B": 1293.23, "alpha": 0.02, "beta": 0.02},
        "A refit of points read off a figure of Hoffmann et al., five outliers left out; A with alpha and B with beta err together. "
        "Intervals are from our own bootstrap of the same points, which gives their deviations of E, alpha and beta again.",
    ),
    (
        "chinchilla-2022",
        "Hoffmann et al. 2022, Training Compute-Optimal Large Language Models, arXiv:2203.15556, equation 10",
        _HOFFMANN,
        {},
        "Rounded constants of the third approach, which the paper's other approaches and the refit of 2024 contradict: prefer the refit.",
    ),
)


def _chinchilla() -> list[Law]:
    found: list[Law] = []
    for name, paper, constants, spread, note in _FITS:
        other = "chinchilla-2022" if name == "chinchilla" else "chinchilla"
        against = "two fits of the same runs; at 1e24 FLOPs the optimal sizes differ by a factor of about two"
        common: dict[str, Any] = {"paper": paper, "constants": constants, "spread": spread, "note": note}
        runs = ("MassiveText, one pass, cosine schedule as long as the run", "flops = 6 parameters x tokens")
        found.append(
            Law(
                name=f"{name}-loss",
                output=LOSS_OUT,
                unit="nats per token",
                formula="E + A N^-alpha + B D^-beta",
                inputs=(PARAMS, TOKENS),
                function=chinchilla,
                box=Box({"params": (4.4e7, 1.7e10), "tokens": (2.5e8, 5e11)}),
                conditions=(*runs, "another tokenizer or data set shifts the whole loss"),
                log_sd=_propagated(chinchilla, constants, _SCATTER) if spread else None,
                **common,
            )
        )
        for what, output, unit, function in (
            ("params", SIZE, "parameters", optimal_params),
            ("tokens", DATA, "tokens", optimal_tokens),
        ):
            found.append(
                Law(
                    name=f"{name}-{what}",
                    output=output,
                    unit=unit,
                    formula="least E + A N^-alpha + B D^-beta with 6 N D = C",
                    inputs=(FLOPS,),
                    function=function,
                    box=Box({"flops": (6e18, 3e21)}),
                    margin=1e4,
                    conditions=(*runs, "the cost of using the model is not counted"),
                    log_sd=_propagated(function, constants, 0.0) if spread else None,
                    contradicts={f"{other}-{what}": against},
                    **common,
                )
            )
    return found


def _muennighoff() -> Law:
    return Law(
        name="repeated-data-loss",
        paper="Muennighoff et al. 2023, Scaling Data-Constrained Language Models, arXiv:2305.16264, section 3 and appendix A",
        output=LOSS_OUT,
        unit="nats per token",
        formula="E + A N'^-alpha + B D'^-beta with D' = U + U R_D (1 - exp(-(D/U - 1) / R_D)), N' alike",
        inputs=(PARAMS, TOKENS, UNIQUE),
        constants={
            "E": float(np.exp(0.6254804)),
            "A": float(np.exp(6.255414)),
            "B": float(np.exp(7.3049974)),
            "alpha": 0.3526596,
            "beta": 0.3526596,
            "R_D": 15.387756,
            "R_N": 5.309743,
        },
        function=repeated,
        box=Box({"params": (7e6, 9e9), "tokens": (1e8, 9e11), "unique_tokens": (1e8, 1.8e11)}),
        conditions=(
            "C4, GPT-2 shapes and tokenizer",
            "beyond about four passes repeated tokens are worth visibly less, beyond about forty nearly nothing",
        ),
        note="The law does not rise again when a model overfits: it is a floor, not a forecast, for many passes over little data.",
    )


def _build() -> dict[str, Law]:
    laws = [
        *_step(),
        _horizon(),
        *_porian(),
        *_deepseek(),
        *_shuai(),
        *_critical(),
        *_critical_elsewhere(),
        *_chinchilla(),
        _muennighoff(),
    ]
    return {law.name: law for law in laws}


PUBLISHED: Mapping[str, Law] = _build()


def names() -> list[str]:
    """Names of the published laws, sorted."""
    return sorted(PUBLISHED)


def get(name: str) -> Law:
    """A published law.

    Raises:
        ConfigError: If there is none of that name, with the nearest.
    """
    if name in PUBLISHED:
        return PUBLISHED[name]
    near = difflib.get_close_matches(name, PUBLISHED, n=3)
    raise ConfigError(
        f"A law must be one of {', '.join(names())}; got {name!r}."
        + (f" Did you mean {' or '.join(near)}?" if near else " Pick one of them.")
    )
