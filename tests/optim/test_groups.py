"""Which parameters share what: every parameter once, kinds, ties, frozen parts and the user's own groups."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from autoopt.errors import UsageError, WorkloadError
from autoopt.optim import groups
from autoopt.optim.groups import Group


class LlamaRMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, width))


class Transformer(nn.Module):
    """A bit of everything, with the output layer registered first."""

    def __init__(self) -> None:
        super().__init__()
        self.lm_head = nn.Linear(8, 11, bias=False)
        self.tokens = nn.Embedding(11, 8)
        self.pos_emb = nn.Parameter(torch.zeros(5, 8))
        self.attention = nn.MultiheadAttention(8, 2)
        self.norm = LlamaRMSNorm(8)
        self.conv = nn.Conv1d(8, 8, 3)
        self.batch_norm = nn.BatchNorm1d(8)
        self.gate = nn.Parameter(torch.ones(()))
        self.low_rank = nn.Parameter(torch.ones(8, 1))
        self.last = nn.Linear(8, 8)
        self.shared = self.last
        self.frozen = nn.Linear(8, 8).requires_grad_(False)


def labels(found: list[Group]) -> dict[str, list[str]]:
    return {group.label: list(group.names) for group in found}


def test_kinds_of_a_transformer() -> None:
    assert groups.kinds(Transformer()) == {
        "pos_emb": "embedding",
        "gate": "norm",
        "low_rank": "weight",
        "lm_head.weight": "weight",
        "tokens.weight": "embedding",
        "attention.in_proj_weight": "matrix",
        "attention.in_proj_bias": "bias",
        "attention.out_proj.weight": "matrix",
        "attention.out_proj.bias": "bias",
        "norm.weight": "norm",
        "conv.weight": "weight",
        "conv.bias": "bias",
        "batch_norm.weight": "norm",
        "batch_norm.bias": "bias",
        "last.weight": "matrix",
        "last.bias": "bias",
    }


@pytest.mark.parametrize(
    ("layer", "names"),
    [
        (nn.LSTM(3, 4), {"bias_ih_l0": "bias", "bias_hh_l0": "bias", "weight_ih_l0": "matrix"}),
        (nn.EmbeddingBag(3, 4), {"weight": "embedding"}),
        (nn.GroupNorm(2, 4), {"weight": "norm", "bias": "bias"}),
        (nn.InstanceNorm2d(4, affine=True), {"weight": "norm"}),
        (nn.Bilinear(2, 3, 4), {"weight": "weight", "bias": "bias"}),
        (nn.utils.parametrizations.spectral_norm(nn.Conv2d(2, 2, 2), "bias"), {}),
    ],
)
def test_kinds_of_layers(layer: nn.Module, names: dict[str, str]) -> None:
    found = groups.kinds(layer)
    assert {name: found[name] for name in names} == names


def test_a_parametrized_bias_is_a_bias() -> None:
    class Positive(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.abs()

    layer = nn.Conv2d(1, 2, 2)
    nn.utils.parametrize.register_parametrization(layer, "bias", Positive())
    assert groups.kinds(layer) == {"weight": "weight", "parametrizations.bias.original": "bias"}


def test_a_head_tied_to_an_embedding_is_an_embedding_and_there_once() -> None:
    model = Transformer()
    model.lm_head.weight = model.tokens.weight
    found = groups.kinds(model)
    assert found["lm_head.weight"] == "embedding"
    assert "tokens.weight" not in found


def test_every_trainable_parameter_is_in_one_group() -> None:
    model = Transformer()
    found = groups.split(model)
    members = [id(p) for group in found for p in group.params]
    assert sorted(members) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert all(len(group.names) == len(group.params) for group in found)
    assert [(g.label, g.decay_scale, g.matrices) for g in found] == [
        ("matrices", 1.0, True),
        ("weights", 1.0, False),
        ("no decay", 0.0, False),
    ]


def test_the_split_is_the_same_each_time() -> None:
    assert labels(groups.split(Transformer())) == labels(groups.split(Transformer()))


def test_the_policy_says_what_is_not_decayed() -> None:
    found = labels(groups.split(Transformer(), no_decay=("norm",)))
    assert found["no decay"] == ["gate", "norm.weight", "batch_norm.weight"]
    assert "no decay" not in labels(groups.split(Transformer(), no_decay=()))


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="'biases'") as caught:
        groups.split(Transformer(), no_decay=("biases",))
    assert "bias?" in caught.value.hint


def test_nothing_to_train() -> None:
    with pytest.raises(WorkloadError, match="no trainable parameters"):
        groups.split(nn.Linear(2, 2).requires_grad_(False))


def test_a_lazy_parameter_has_no_kind_yet() -> None:
    model = nn.LazyLinear(3)
    with pytest.raises(WorkloadError, match="weight has no shape yet"):
        groups.split(model)


def two_layers() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))


def test_the_users_groups_are_kept_as_multipliers() -> None:
    model = two_layers()
    user = torch.optim.SGD(
        [
            {"params": model[1].parameters(), "lr": 0.3, "weight_decay": 0.0, "name": "head"},
            {"params": model[0].parameters(), "weight_decay": 0.2},
        ],
        lr=0.1,
    )
    found = groups.split(model, user=user)
    assert [(g.label, g.names, round(g.lr_scale, 6), g.decay_scale) for g in found] == [
        ("head: weights", ("1.weight", "1.bias"), 3.0, 0.0),
        ("group 1: matrices", ("0.weight",), 1.0, 1.0),
        ("group 1: weights", ("0.bias",), 1.0, 1.0),
    ]


def test_a_scheduler_that_starts_at_zero_does_not_change_the_multipliers() -> None:
    model = two_layers()
    user = torch.optim.SGD(
        [{"params": model[0].parameters(), "lr": 0.1}, {"params": model[1].parameters(), "lr": 0.2}]
    )
    torch.optim.lr_scheduler.LambdaLR(user, lambda step: step / 10)
    assert user.param_groups[0]["lr"] == 0
    assert {g.lr_scale for g in groups.split(model, user=user)} == {1.0, 2.0}


def test_groups_without_any_decay_keep_our_rule() -> None:
    model = two_layers()
    user = torch.optim.SGD(
        [{"params": model[0].parameters(), "lr": 0.1}, {"params": model[1].parameters(), "lr": 0.2}]
    )
    found = groups.split(model, user=user)
    assert {g.label: g.decay_scale for g in found} == {
        "group 0: matrices": 1.0,
        "group 0: no decay": 0.0,
        "group 1: weights": 1.0,
        "group 1: no decay": 0.0,
    }


def test_a_group_held_still_is_not_the_unit() -> None:
    model = two_layers()
    user = torch.optim.SGD(
        [{"params": model[0].parameters(), "lr": 0.0}, {"params": model[1].parameters(), "lr": 0.2}]
    )
    assert {g.label.partition(":")[0]: g.lr_scale for g in groups.split(model, user=user)} == {
        "group 0": 0.0,
        "group 1": 1.0,
    }


def test_with_one_group_of_the_users_our_rule_holds_for_what_it_holds() -> None:
    model = two_layers()
    user = torch.optim.AdamW(model[1].parameters(), lr=0.5, weight_decay=0.0)
    assert labels(groups.split(model, user=user)) == {"weights": ["1.weight"], "no decay": ["1.bias"]}


def test_a_tensor_outside_the_model_is_refused() -> None:
    model = two_layers()
    user = torch.optim.SGD([*model.parameters(), torch.ones(2, requires_grad=True)], lr=0.1)
    with pytest.raises(WorkloadError, match="1 tensors that are not parameters"):
        groups.split(model, user=user)


def test_an_optimizer_of_frozen_parameters_only() -> None:
    model = two_layers()
    user = torch.optim.SGD(model[0].parameters(), lr=0.1)
    model[0].requires_grad_(False)
    with pytest.raises(WorkloadError, match="no trainable parameter"):
        groups.split(model, user=user)


def test_as_param_groups_scales_rate_and_decay() -> None:
    model = two_layers()
    group = Group("x", ("0.weight",), (model[0].weight,), lr_scale=0.5, decay_scale=0.1, matrices=True)
    assert groups.as_param_groups([group], 0.2, 0.3) == [
        {
            "params": [model[0].weight],
            "lr": 0.1,
            "weight_decay": pytest.approx(0.03),
            "lr_scale": 0.5,
            "label": "x",
            "matrices": True,
        }
    ]


def test_records_count_tensors_and_elements() -> None:
    found = groups.records(groups.split(two_layers()))
    assert [(r.label, r.tensors, r.parameters, r.decay_scale) for r in found] == [
        ("matrices", 1, 16, 1.0),
        ("weights", 1, 8, 1.0),
        ("no decay", 2, 6, 0.0),
    ]


def test_param_groups_leave_out_a_decay_that_the_optimizer_does_not_take() -> None:
    """A key with 0 in it would win over the constructor's own default."""
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    assert all("weight_decay" not in group for group in groups.param_groups(net, lr=0.1))
    decays = [group["weight_decay"] for group in groups.param_groups(net, lr=0.1, weight_decay=0.2)]
    assert decays == [0.2, 0.2, 0.0]
