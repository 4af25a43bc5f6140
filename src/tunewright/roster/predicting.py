"""Methods that predict a choice from smaller models, less data or published laws: what each is, and when to take which."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Literal

Family = Literal["parametrization", "check", "proxy", "law", "batch-size", "rule"]


@dataclass(frozen=True, slots=True)
class Predicting:
    """One way to know a setting before the training that it is for.

    Attributes:
        name: How it is listed; for parametrizations what ``tunewright.scaling.plan`` takes.
        path: ``module:name`` of the class or function that users call, or of the object that stands for it.
        family: By what it goes by.
        paper: Authors, year, where.
        summary: What it does, one line.
        when: When to use it, one line.
        predicts: What need not be searched at full size, in words.
        cost: What it costs, in words.
        needs: Extra that it needs, or empty.
    """

    name: str
    path: str
    family: Family
    paper: str
    summary: str
    when: str
    predicts: str
    cost: str
    needs: str = "torch"

    def load(self) -> Any:
        """The class, function or object.

        Raises:
            MissingExtra: If the extra that it needs is not installed.
        """
        module, _, name = self.path.partition(":")
        return getattr(importlib.import_module(module), name)


PARAMETRIZATIONS: tuple[Predicting, ...] = (
    Predicting(
        "mup",
        "tunewright.scaling.rules.mup:MUP",
        "parametrization",
        "Yang et al. 2022, arXiv:2203.03466",
        "hidden matrices learn at a rate over the width, scores are divided by the width, the rest stays",
        "a rate and multipliers tuned on a narrow model are for a wide one of the same depth",
        "the learning rate, first values and multipliers of any width",
        "nothing a step; the search is paid at the narrow width",
    ),
    Predicting(
        "u-mup",
        "tunewright.scaling.rules.umup:UNIT_MUP",
        "parametrization",
        "Blake et al. 2024, arXiv:2407.17465",
        "muP with weights of variance one and all scales in the forward pass",
        "as mup, where hyperparameters shall be near one and searched one by one, or precision is low",
        "the learning rate and multipliers of any width, with no base width",
        "a multiplication per layer",
    ),
    Predicting(
        "sp-layerwise",
        "tunewright.scaling.rules.layerwise:LAYERWISE",
        "parametrization",
        "Everett et al. 2024, arXiv:2407.05872",
        "the model as it is, and Adam's rates falling with the fan-in",
        "the model's own first values and forward pass are to stay",
        "the learning rate of any width",
        "nothing a step",
    ),
    Predicting(
        "sp-no-alignment",
        "tunewright.scaling.rules.layerwise:LAYERWISE_LOOSE",
        "parametrization",
        "Everett et al. 2024, arXiv:2407.05872",
        "as sp-layerwise, with rates that fall with the root of the fan-in",
        "alignment was measured and is low, or sp-layerwise learns too slowly when wide",
        "the learning rate of any width, if alignment stays low",
        "nothing a step",
    ),
    Predicting(
        "ntk",
        "tunewright.scaling.rules.abc:NTK_RULE",
        "parametrization",
        "Jacot et al. 2018, arXiv:1806.07572; Everett et al. 2024, arXiv:2407.05872",
        "weights of variance one, forward factors over the root of the fan-in, rates by layer",
        "comparing parametrizations, or theory of wide networks is to be tested",
        "the learning rate of any width",
        "a multiplication per layer",
    ),
    Predicting(
        "mean-field",
        "tunewright.scaling.rules.abc:MEAN_FIELD_RULE",
        "parametrization",
        "Mei et al. 2018, arXiv:1804.06561; Everett et al. 2024, arXiv:2407.05872",
        "as ntk, with a readout over the width, so that features move",
        "comparing parametrizations with features that move",
        "the learning rate of any width",
        "a multiplication per layer",
    ),
    Predicting(
        "mup-abc",
        "tunewright.scaling.rules.abc:MUP_RULE",
        "parametrization",
        "Everett et al. 2024, arXiv:2407.05872",
        "muP in absolute exponents with no base width, with rates for SGD, Adam and Adafactor",
        "Adafactor is the optimizer, or no width is special",
        "the learning rate of any width",
        "a multiplication per layer",
    ),
    Predicting(
        "depth-mup",
        "tunewright.scaling.rules.depth:DEPTH_MUP",
        "parametrization",
        "Yang et al. 2023, arXiv:2310.02244",
        "muP with residual branches and Adam's rates over the root of the depth",
        "width and depth both grow and blocks are residual",
        "the learning rate and multipliers of any width and depth",
        "nothing a step",
    ),
    Predicting(
        "depthwise",
        "tunewright.scaling.rules.depth:DEPTHWISE",
        "parametrization",
        "Bordelon et al. 2023, arXiv:2309.16620",
        "muP with residual branches over the root of the depth, rates as its paper has them",
        "as depth-mup, with the rule that was tested on convolutional networks and vision transformers",
        "the learning rate of any width and depth",
        "nothing a step",
    ),
    Predicting(
        "architecture-aware",
        "tunewright.scaling.rules.architecture:ARCHITECTURE_AWARE",
        "parametrization",
        "Chen et al. 2024, arXiv:2402.17440",
        "first values and rate from the graph: in-degrees, and ways from input to output by their lengths",
        "topologies differ and each is to have a fair rate, as in comparisons of architectures",
        "the largest rate of another graph of layers",
        "tracing the model once",
    ),
    Predicting(
        "second-order",
        "tunewright.scaling.rules.second_order:SECOND_ORDER",
        "parametrization",
        "Ishikawa and Karakida 2023, arXiv:2312.12226",
        "first values, rates and damping of K-FAC and Shampoo that hold for every width",
        "the optimizer is K-FAC or Shampoo",
        "learning rate and damping of any width",
        "nothing a step",
    ),
)

CHECKS: tuple[Predicting, ...] = (
    Predicting(
        "coordinate-check",
        "tunewright.scaling.coordinates:coordinate_check",
        "check",
        "Yang et al. 2022, arXiv:2203.03466",
        "whether activations, and what a few steps change of them, keep their size as a model grows",
        "first, whenever a plan is applied to a model of your own",
        "whether the parametrization is applied rightly",
        "a few steps at every width",
    ),
    Predicting(
        "rate-check",
        "tunewright.scaling.rates:rate_check",
        "check",
        "Yang et al. 2022, arXiv:2203.03466",
        "whether the best rate of a small model is that of a larger one",
        "before a transferred rate is trusted with a large training",
        "whether the rate transfers, and by how much it moves",
        "a sweep over rates at every size",
    ),
    Predicting(
        "sharpness-check",
        "tunewright.scaling.sharpness:sharpness_check",
        "check",
        "Noci et al. 2024, arXiv:2402.17457",
        "the largest eigenvalue of the Hessian over training and sizes",
        "asking why a rate does not transfer",
        "whether the largest stable rate is the same at every size",
        "some tens of Hessian-vector products per look",
    ),
    Predicting(
        "alignment",
        "tunewright.scaling.alignment:measure",
        "check",
        "Everett et al. 2024, arXiv:2407.05872",
        "how aligned inputs are with weights and with what training changed of them",
        "choosing between rates for full and for no alignment",
        "which exponents the rates of a model should have",
        "a pass through two copies of the model",
    ),
)

PROXIES: tuple[Predicting, ...] = (
    Predicting(
        "proxy-study",
        "tunewright.scaling.proxy:transfer",
        "proxy",
        "Yang et al. 2022, arXiv:2203.03466",
        "settings of a large model from a study of small ones: which parametrization, which rate, how sure, at what cost",
        "the target can be trained once or never before it counts",
        "all settings of the target, with an interval, or a refusal",
        "the study at its proxy sizes",
        needs="",
    ),
    Predicting(
        "unit-search",
        "tunewright.scaling.unit:independent_search",
        "proxy",
        "Blake et al. 2024, arXiv:2407.17465",
        "one scale-free hyperparameter after the other, then all their best values together",
        "a unit-scaled model, whose hyperparameters hardly interact",
        "the multipliers of u-muP",
        "a short sweep per hyperparameter",
    ),
    Predicting(
        "mulo",
        "tunewright.optim.learned.optimizer:LearnedOptimizer",
        "proxy",
        "Therien et al. 2024, arXiv:2406.00153",
        "LearnedOptimizer with rule='mup': a learned optimizer meta-trained under muP, for models wider than it was trained on",
        "no rate is to be chosen and the model is wider than those of the learned rule",
        "the learning rate and its schedule at any width",
        "over ten times AdamW's time per step",
    ),
    Predicting(
        "moe-dropout",
        "tunewright.scaling.repeated:train_repeated",
        "proxy",
        "Xue et al. 2023, arXiv:2305.13230",
        "training for many epochs on few data, with dropout tuned on a mixture of experts",
        "data are few and are repeated",
        "dropout of a dense model",
        "trainings of a mixture of experts with fewer FLOPs",
    ),
)

LAWS: tuple[Predicting, ...] = (
    Predicting(
        "scaling-laws",
        "tunewright.scaling.laws.recommending:recommend",
        "law",
        "Li et al. 2025, arXiv:2503.04715; Hoffmann et al. 2022, arXiv:2203.15556; and others",
        "every published law that applies, side by side, with intervals, boxes and conflicts",
        "a first guess for a language model of ordinary size is enough",
        "learning rate, batch size, size and loss",
        "microseconds",
        needs="",
    ),
    Predicting(
        "law-fit",
        "tunewright.scaling.laws.fitting:fit_loss",
        "law",
        "Hoffmann et al. 2022, arXiv:2203.15556; Besiroglu et al. 2024, arXiv:2404.10102",
        "a law of loss in parameters and tokens from your own runs, with a cloud of resampled fits",
        "a dozen runs or more of two or more sizes exist",
        "loss and the best size for a budget, with intervals",
        "seconds",
        needs="",
    ),
    Predicting(
        "downstream-law",
        "tunewright.scaling.laws.downstream:fit_error",
        "law",
        "Gadre et al. 2024, arXiv:2403.08540; Ivgi et al. 2022, arXiv:2202.06387",
        "error on a task from loss, and the choice among models by what is predicted of them",
        "several model families are compared by small members of theirs",
        "error on tasks at a larger size, and which family to take",
        "seconds",
        needs="",
    ),
    Predicting(
        "token-horizon",
        "tunewright.scaling.horizon:fit_horizon",
        "law",
        "Bjorck et al. 2024, arXiv:2409.19913",
        "how the best rate falls with the length of training at a fixed batch, and what that says of a longer one",
        "the model stays and only its training becomes longer",
        "the learning rate of a longer training",
        "sweeps over rates at two or more short lengths",
        needs="",
    ),
    Predicting(
        "time-model",
        "tunewright.scaling.timing:calibrate",
        "law",
        "Inbar and Sernau 2024, arXiv:2406.18922",
        "seconds per step from memory copies and FLOPs, calibrated on this machine; the best shape for a number of seconds",
        "the budget is time, not FLOPs",
        "how long a shape takes, and which shape learns most in that time",
        "some seconds of timed steps",
    ),
    Predicting(
        "mixture-law",
        "tunewright.scaling.mixture:fit_mixture",
        "law",
        "Xi et al. 2024, arXiv:2409.06624",
        "loss over mixture ratio and learning rate of continued training, from small models",
        "a model is to learn another language and not forget its own",
        "mixture ratio and learning rate of a larger model",
        "a grid of short trainings of a small model",
        needs="",
    ),
)

BATCH_SIZES: tuple[Predicting, ...] = (
    Predicting(
        "noise-scale",
        "tunewright.scaling.noise:gradient_noise_scale",
        "batch-size",
        "McCandlish et al. 2018, arXiv:1812.06162",
        "how large a batch may be before its gradient is good enough, from gradients alone",
        "a batch size is to be chosen for a training that already runs",
        "the useful batch size",
        "gradients of some batches of two sizes",
    ),
    Predicting(
        "critical-batch",
        "tunewright.scaling.critical:critical_batch_size",
        "batch-size",
        "Zhang et al. 2024, arXiv:2410.21676",
        "the largest batch that needs at most a fifth more examples than the best, and its law in data",
        "how far data parallelism may go is the question",
        "the largest batch size that is worth it",
        "a training per batch size",
        needs="",
    ),
    Predicting(
        "square-root-batch",
        "tunewright.scaling.batch_rule:scaled",
        "batch-size",
        "Zhao et al. 2024, arXiv:2406.18533",
        "rate times the root of the batch's growth, averages to its power",
        "Adam's settings are known at one batch size and wanted at another",
        "Adam's rate and averages at another batch size",
        "nothing",
        needs="",
    ),
)

FIXED_RULES: tuple[Predicting, ...] = (
    Predicting(
        "sigma-dimension",
        "tunewright.scaling.sigma_dimension:moved",
        "rule",
        "Xu et al. 2023, arXiv:2302.04265",
        "a tuned noise schedule of a diffusion model, moved to Poisson flow models of any extra dimension",
        "PFGM++ of another dimension than the one that was tuned",
        "the noise schedule and sampler settings",
        "nothing",
        needs="",
    ),
    Predicting(
        "fast-scaling",
        "tunewright.scaling.compound:scale",
        "rule",
        "Dollar et al. 2021, arXiv:2103.06877",
        "how much deeper, wider and finer a convolutional network becomes for so many times the FLOPs",
        "a convolutional network is to be larger and activations, not FLOPs, take the time",
        "depth, width and resolution of a larger network",
        "nothing",
        needs="",
    ),
    Predicting(
        "hyper-rule",
        "tunewright.scaling.hyper_rule:hyper_rule",
        "rule",
        "Kolesnikov et al. 2020, arXiv:1912.11370",
        "steps, rate, resolution and mixup of a fine-tuning from the number of examples and the size of images",
        "a large pretrained vision model is fine-tuned on many data sets",
        "all settings of a fine-tuning",
        "nothing",
        needs="",
    ),
)

PREDICTING: dict[str, Predicting] = {
    m.name: m for m in (*PARAMETRIZATIONS, *CHECKS, *PROXIES, *LAWS, *BATCH_SIZES, *FIXED_RULES)
}

# What to ask oneself, and what to take; shown by ``tunewright methods --predicting`` and in the guide.
WHICH_PREDICTING: tuple[tuple[str, str], ...] = (
    ("a model that becomes wider", "mup; sp-layerwise if its first values are to stay"),
    ("a model that becomes wider and deeper", "depth-mup; depthwise for convolutions"),
    ("hyperparameters near one, or low precision", "u-mup, searched by unit-search"),
    ("another topology of layers", "architecture-aware"),
    ("K-FAC or Shampoo", "second-order"),
    ("Adafactor", "mup-abc"),
    ("a plan on a model of your own", "coordinate-check first, then rate-check at two sizes"),
    ("a rate that does not transfer", "sharpness-check and alignment say why"),
    ("one shot at the target", "proxy-study"),
    ("nothing but a size and a number of tokens", "scaling-laws"),
    ("runs of your own", "law-fit; downstream-law for errors on tasks"),
    ("a longer training of the same model", "token-horizon"),
    ("another batch size", "square-root-batch; noise-scale or critical-batch for which"),
    ("a budget in seconds", "time-model"),
    ("few data, many epochs", "moe-dropout"),
    ("another language in the mixture", "mixture-law"),
    ("a larger convolutional network", "fast-scaling"),
    ("fine-tuning of a vision model", "hyper-rule"),
    ("a noise schedule for PFGM++", "sigma-dimension"),
    ("no rate at all, at any width", "mulo"),
)
