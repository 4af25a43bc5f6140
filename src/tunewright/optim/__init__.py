"""Optimizers and schedules that need no learning rate to be chosen (PyTorch)."""

from __future__ import annotations

from tunewright.errors import missing_extra

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise missing_extra("torch", "torch") from error

from tunewright.optim import schedules
from tunewright.optim.adam_atan2 import AdamAtan2
from tunewright.optim.adgd import AdGD
from tunewright.optim.auto import auto
from tunewright.optim.averaging import Averaged, refresh_statistics
from tunewright.optim.base import OptimWarning, Rule
from tunewright.optim.candidate import Candidate, tuned
from tunewright.optim.compare import compare
from tunewright.optim.comparison import Comparison
from tunewright.optim.core import CoRe
from tunewright.optim.create import advance, create, entry, names, space
from tunewright.optim.dadapt_adagrad import DAdaptAdaGrad
from tunewright.optim.dadapt_adam import DAdaptAdam
from tunewright.optim.dadapt_da import DAdaptDA
from tunewright.optim.dadapt_sgd import DAdaptSGD
from tunewright.optim.delta_sgd import DeltaSGD
from tunewright.optim.dog import DoG, LDoG
from tunewright.optim.dowg import DoWG
from tunewright.optim.fractal import stability_margin, trainability_map
from tunewright.optim.frugal import Frugal
from tunewright.optim.games import AdaOptDAPlus, OptDAPlus, Regret
from tunewright.optim.hypergradient import HypergradientAdam, HypergradientSGD
from tunewright.optim.innaprop import INNAprop
from tunewright.optim.kfac import Kfac
from tunewright.optim.learned.optimizer import LearnedOptimizer
from tunewright.optim.momo import MoMo
from tunewright.optim.momo_adam import MoMoAdam
from tunewright.optim.newton import DampedNewton, damped_newton
from tunewright.optim.oasis import Oasis
from tunewright.optim.policy import Episodes, PolyakPolicy, TwinPolyak, policy_loss
from tunewright.optim.polyak import Polyak, StochasticPolyak
from tunewright.optim.prodigy import Prodigy
from tunewright.optim.profile import Profile, profile
from tunewright.optim.reporting import chosen, report
from tunewright.optim.sania import SaniaAdaGrad, SaniaAdam
from tunewright.optim.sania_curvature import SaniaHutchinson, SaniaNewton
from tunewright.optim.schedule_free import ScheduleFreeAdamW, ScheduleFreeSGD
from tunewright.optim.schedules.adadagrad import AdAdaGrad, AdaGradNorm, micro_batch_noise, per_example_noise
from tunewright.optim.schedules.adapter import apply
from tunewright.optim.schedules.autolora import Attack, AutoLoRa, LowRankBranch
from tunewright.optim.schedules.autolrs import AutoLRS
from tunewright.optim.schedules.batches import GrowingBatchSampler
from tunewright.optim.schedules.disciplined import fitting, weight_decay_test
from tunewright.optim.schedules.local_sgd import LocalSgd
from tunewright.optim.schedules.one_cycle import OneCycle
from tunewright.optim.schedules.qsr import Qsr
from tunewright.optim.schedules.range_test import lr_range_test
from tunewright.optim.schedules.snapshot import Snapshot
from tunewright.optim.schedules.warmup_probe import warmup_probe
from tunewright.optim.sensitivity import RateCurve, rate_sweep
from tunewright.optim.shampoo import Shampoo
from tunewright.optim.sparse import Mcp, Scad, coordinate_descent, fit_sparse, sparse_path
from tunewright.optim.zeroth_order import SparseMeZO

__all__ = [
    "AdAdaGrad",
    "AdGD",
    "AdaGradNorm",
    "AdaOptDAPlus",
    "AdamAtan2",
    "Attack",
    "AutoLRS",
    "AutoLoRa",
    "Averaged",
    "Candidate",
    "CoRe",
    "Comparison",
    "DAdaptAdaGrad",
    "DAdaptAdam",
    "DAdaptDA",
    "DAdaptSGD",
    "DampedNewton",
    "DeltaSGD",
    "DoG",
    "DoWG",
    "Episodes",
    "Frugal",
    "GrowingBatchSampler",
    "HypergradientAdam",
    "HypergradientSGD",
    "INNAprop",
    "Kfac",
    "LDoG",
    "LearnedOptimizer",
    "LocalSgd",
    "LowRankBranch",
    "Mcp",
    "MoMo",
    "MoMoAdam",
    "Oasis",
    "OneCycle",
    "OptDAPlus",
    "OptimWarning",
    "Polyak",
    "PolyakPolicy",
    "Prodigy",
    "Profile",
    "Qsr",
    "RateCurve",
    "Regret",
    "Rule",
    "SaniaAdaGrad",
    "SaniaAdam",
    "SaniaHutchinson",
    "SaniaNewton",
    "Scad",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
    "Shampoo",
    "Snapshot",
    "SparseMeZO",
    "StochasticPolyak",
    "TwinPolyak",
    "advance",
    "apply",
    "auto",
    "chosen",
    "compare",
    "coordinate_descent",
    "create",
    "damped_newton",
    "entry",
    "fit_sparse",
    "fitting",
    "lr_range_test",
    "micro_batch_noise",
    "names",
    "per_example_noise",
    "policy_loss",
    "profile",
    "rate_sweep",
    "refresh_statistics",
    "report",
    "schedules",
    "space",
    "sparse_path",
    "stability_margin",
    "trainability_map",
    "tuned",
    "warmup_probe",
    "weight_decay_test",
]
