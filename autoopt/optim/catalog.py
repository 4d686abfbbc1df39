"""The table of optimizers, as data. Imports no torch.

Start values are for small and middle-sized nets trained from scratch. On an MLP, a small convolutional net and a
character-level transformer, trained for 200 to 300 steps, each is within a decade of the best, mostly below it,
since long runs want lower rates. Ranges are wide on purpose: a best value at the edge of its range says nothing
(Choi 2019, arXiv 1910.05446). Where a default departs from common use, the comment beside it says why.
Decoupled weight decay (arXiv 1711.05101) shrinks a weight by lr * weight_decay a step, so that optimizers with
small rates need large decays.
"""

from __future__ import annotations

from autoopt.optim.spec import Need, OptimSpec, Range

ADAM_LR = Range(1e-5, 1e-1)
"""From fine-tuning a large pretrained net to a small one from scratch."""
BETA1 = Range(0.8, 0.98, "one_minus_log")
BETA2 = Range(0.9, 0.9999, "one_minus_log")
MOMENTUM = Range(0.8, 0.99, "one_minus_log")
DECOUPLED = Range(1e-3, 0.5)
COUPLED = Range(1e-6, 1e-2)
"""Decay added to the gradient; far smaller numbers than decoupled decay."""

TABLE: tuple[OptimSpec, ...] = (
    OptimSpec(
        name="sgd",
        title="SGD, Nesterov momentum",
        target="torch.optim:SGD",
        package="torch>=2.6",
        defaults={"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4},
        space={"lr": Range(1e-4, 3.0), "momentum": MOMENTUM, "weight_decay": COUPLED},
        state_tensors=1,
        paper="Sutskever 2013",
        summary="The least memory but one rate for all parameters; strong on normalized convolutional nets.",
    ),
    OptimSpec(
        name="adamw",
        title="AdamW",
        target="torch.optim:AdamW",
        package="torch>=2.6",
        defaults={"lr": 3e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.05},
        space={"lr": ADAM_LR, "beta2": BETA2, "weight_decay": DECOUPLED, "beta1": BETA1},
        state_tensors=2,
        paper="1711.05101",
        summary="Adam with decoupled weight decay: the default of most present work.",
    ),
    OptimSpec(
        name="nadam",
        title="NAdam, decoupled decay",
        target="torch.optim:NAdam",
        package="torch>=2.6",
        defaults={
            "lr": 3e-3,
            "betas": (0.9, 0.999),
            "eps": 1e-8,
            "weight_decay": 0.05,
            "momentum_decay": 4e-3,
            "decoupled_weight_decay": True,
        },
        space={"lr": ADAM_LR, "beta2": BETA2, "weight_decay": DECOUPLED, "beta1": BETA1},
        state_tensors=2,
        paper="Dozat 2016",
        summary="AdamW with Nesterov momentum; never far behind AdamW when both are tuned.",
    ),
    OptimSpec(
        name="radam",
        title="RAdam, decoupled decay",
        target="torch.optim:RAdam",
        package="torch>=2.6",
        defaults={
            "lr": 5e-3,
            "betas": (0.9, 0.999),
            "eps": 1e-8,
            "weight_decay": 0.05,
            "decoupled_weight_decay": True,
        },
        space={"lr": ADAM_LR, "beta2": BETA2, "weight_decay": DECOUPLED, "beta1": BETA1},
        state_tensors=2,
        paper="1908.03265",
        summary="Adam whose second moment is trusted only when enough gradients have been seen.",
    ),
    OptimSpec(
        name="rmsprop",
        title="RMSprop",
        target="torch.optim:RMSprop",
        package="torch>=2.6",
        # torch's own lr of 1e-2 is ten times what Hinton's lecture proposes.
        defaults={"lr": 2e-3, "alpha": 0.99, "eps": 1e-8, "weight_decay": 1e-5, "momentum": 0.0},
        space={
            "lr": Range(1e-5, 3e-2),
            "alpha": Range(0.9, 0.999, "one_minus_log"),
            "weight_decay": COUPLED,
            "momentum": Range(0.0, 0.95, "linear"),
        },
        state_tensors=1,
        paper="Hinton 2012",
        summary="The gradient over its running root mean square, without bias correction.",
    ),
    OptimSpec(
        name="adagrad",
        title="Adagrad",
        target="torch.optim:Adagrad",
        package="torch>=2.6",
        defaults={"lr": 2e-2, "eps": 1e-10, "weight_decay": 1e-5},
        space={"lr": Range(1e-4, 1.0), "weight_decay": COUPLED},
        state_tensors=1,
        paper="Duchi 2011",
        summary="Rates fall with the sum of squared gradients; made for sparse features.",
    ),
    OptimSpec(
        name="adafactor",
        title="Adafactor",
        target="torch.optim:Adafactor",
        package="torch>=2.6",
        # lr is relative to the size of each tensor and capped by 1 / sqrt(step), so decay must be smaller.
        defaults={"lr": 2e-2, "beta2_decay": -0.8, "d": 1.0, "weight_decay": 1e-2},
        space={
            "lr": Range(1e-4, 1.0),
            "weight_decay": Range(1e-4, 0.2),
            "beta2_decay": Range(-0.95, -0.5, "linear"),
        },
        state_tensors=0.05,
        paper="1804.04235",
        summary="Second moments kept as a row and a column per matrix: next to no memory.",
    ),
    OptimSpec(
        name="muon",
        title="Muon, AdamW for the rest",
        target="autoopt.optim.muon:MuonWithAdamW",
        package="torch>=2.9",
        defaults={
            "lr": 5e-3,
            "weight_decay": 0.05,
            "momentum": 0.95,
            "betas": (0.9, 0.95),
            "ns_steps": 5,
        },
        space={"lr": ADAM_LR, "weight_decay": DECOUPLED, "momentum": MOMENTUM, "beta2": BETA2},
        state_tensors=1,
        needs=frozenset({Need.MATRICES_ONLY}),
        paper="2502.16982",
        summary="Orthogonalized momentum for hidden matrices, scaled to AdamW's step (one rate serves both).",
    ),
    OptimSpec(
        name="lion",
        title="Lion",
        target="pytorch_optimizer:Lion",
        package="pytorch_optimizer>=3.3",
        # Section 5 of the paper: AdamW's rate divided by 3 to 10, its decay multiplied by as much.
        defaults={"lr": 6e-4, "betas": (0.9, 0.99), "weight_decay": 0.3},
        space={
            "lr": Range(3e-6, 1e-2),
            "beta2": Range(0.9, 0.999, "one_minus_log"),
            "weight_decay": Range(1e-2, 5.0),
            "beta1": BETA1,
        },
        state_tensors=1,
        paper="2302.06675",
        summary="The sign of an interpolated momentum: one state tensor, rates below AdamW's.",
    ),
    OptimSpec(
        name="schedule_free_adamw",
        title="Schedule-free AdamW",
        target="schedulefree:AdamWScheduleFree",
        package="schedulefree>=1.4",
        defaults={"lr": 4e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.05},
        space={"lr": ADAM_LR, "beta1": BETA1, "beta2": BETA2, "weight_decay": DECOUPLED},
        state_tensors=2,
        needs=frozenset({Need.TRAIN_EVAL_MODE, Need.OWN_SCHEDULE}),
        paper="2405.15682",
        summary="An average of the iterates instead of a decaying rate: good at every moment of the run.",
    ),
    OptimSpec(
        name="prodigy",
        title="Prodigy",
        target="prodigyopt:Prodigy",
        package="prodigyopt>=1.1",
        # safeguard_warmup: without it the estimate of the distance runs away during a warm-up.
        defaults={
            "lr": 1.0,
            "betas": (0.9, 0.999),
            "eps": 1e-8,
            "weight_decay": 0.01,
            "d_coef": 1.0,
            "use_bias_correction": True,
            "safeguard_warmup": True,
        },
        space={
            "lr": Range(0.1, 10.0),
            "beta2": BETA2,
            "weight_decay": Range(1e-4, 0.5),
            "beta1": BETA1,
        },
        state_tensors=4,
        needs=frozenset({Need.ONE_RATE}),
        paper="2306.06101",
        summary="Adam that estimates its own learning rate; lr only multiplies the estimate.",
    ),
    OptimSpec(
        name="adan",
        title="Adan",
        target="autoopt.optim.adan:Adan",
        package="autoopt",
        # From scratch 5 to 10 times AdamW's rate is what the authors use on large nets; small ones like less.
        defaults={"lr": 6e-3, "betas": (0.98, 0.92, 0.99), "eps": 1e-8, "weight_decay": 0.02},
        space={
            "lr": Range(3e-5, 2e-1),
            "beta3": Range(0.9, 0.9995, "one_minus_log"),
            "weight_decay": Range(1e-3, 0.3),
            "beta1": Range(0.9, 0.995, "one_minus_log"),
        },
        state_tensors=4,
        paper="2208.06677",
        summary="Nesterov momentum by differences of gradients; bears rates several times AdamW's.",
    ),
    OptimSpec(
        name="adahessian",
        title="AdaHessian",
        target="autoopt.optim.adahessian:AdaHessian",
        package="autoopt",
        # The paper passes SGD's decay divided by the rate: 5e-4 / 0.15.
        defaults={
            "lr": 0.15,
            "betas": (0.9, 0.999),
            "eps": 1e-4,
            "weight_decay": 3e-3,
            "hessian_power": 1.0,
        },
        space={
            "lr": Range(1e-3, 3.0),
            "beta2": BETA2,
            "weight_decay": Range(1e-5, 1e-1),
            "beta1": BETA1,
        },
        state_tensors=2,
        needs=frozenset({Need.SECOND_ORDER}),
        paper="2006.00719",
        summary="Adam on the diagonal of the Hessian; twice to four times the cost of a step.",
    ),
    OptimSpec(
        name="sgd_sai",
        title="SGD-SaI",
        target="autoopt.optim.sgd_sai:SGDSaI",
        package="autoopt",
        defaults={"lr": 1e-2, "momentum": 0.9, "eps": 1e-8, "weight_decay": 1e-2},
        space={"lr": Range(1e-4, 3e-1), "momentum": MOMENTUM, "weight_decay": DECOUPLED},
        state_tensors=1,
        paper="2412.11768",
        summary="SGD with momentum and a rate per tensor fixed at the first step: half of AdamW's memory.",
    ),
)
