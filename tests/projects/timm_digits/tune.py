"""What autoopt needs of train.py: `autoopt profile tune.py -- digits.csv.gz`."""

import torch.nn.functional as F
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2, optimizer_kwargs
from train import create_digits_model, create_loaders, parser

args = parser.parse_args()
loader_train, loader_eval = create_loaders(args)
STEPS = args.epochs * len(loader_train)
mixup_fn = Mixup(mixup_alpha=args.mixup, label_smoothing=args.smoothing, num_classes=args.num_classes)


def build_model():
    return create_digits_model(args)


def train_dataloader():
    return loader_train


def val_dataloader():
    return loader_eval


def loss(model, batch):
    input, target = batch
    if not model.training:
        return F.cross_entropy(model(input), target)
    input, target = mixup_fn(input, target)
    return SoftTargetCrossEntropy()(model(input), target)


def configure_optimizers(model):
    return create_optimizer_v2(model, **optimizer_kwargs(cfg=args))
