#!/usr/bin/env python3
"""Training script in the manner of timm's: create_model, create_optimizer_v2, mixup, scheduler, EMA."""

import argparse
import logging

import numpy as np
import timm
import torch
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2, optimizer_kwargs
from timm.scheduler import create_scheduler_v2
from timm.utils import AverageMeter, ModelEmaV3, accuracy, random_seed, setup_default_logging
from torch.utils.data import DataLoader, TensorDataset

_logger = logging.getLogger("train")
parser = argparse.ArgumentParser(description="timm training")
parser.add_argument("data_dir", metavar="DIR")
parser.add_argument("--model", default="vit_tiny_patch16_224")
parser.add_argument("--num-classes", type=int, default=10)
parser.add_argument("-b", "--batch-size", type=int, default=64)
parser.add_argument("--opt", default="adamw")
parser.add_argument("--lr", type=float, default=1e-3)
parser.add_argument("--weight-decay", type=float, default=0.05)
parser.add_argument("--momentum", type=float, default=0.9)
parser.add_argument("--sched", default="cosine")
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--warmup-epochs", type=int, default=1)
parser.add_argument("--mixup", type=float, default=0.2)
parser.add_argument("--smoothing", type=float, default=0.1)
parser.add_argument("--model-ema", action="store_true")
parser.add_argument("--seed", type=int, default=42)


def create_digits_model(args):
    return timm.create_model(
        args.model,
        num_classes=args.num_classes,
        pretrained=False,
        img_size=8,
        patch_size=2,
        in_chans=1,
        embed_dim=32,
        depth=2,
        num_heads=2,
    )


def create_loaders(args):
    table = torch.from_numpy(np.loadtxt(args.data_dir, delimiter=",", dtype=np.float32))
    images, labels = table[:, :64].view(-1, 1, 8, 8) / 16, table[:, 64].long()
    train, val = TensorDataset(images[:1200], labels[:1200]), TensorDataset(images[1200:], labels[1200:])
    loader_train = DataLoader(train, batch_size=args.batch_size, shuffle=True, drop_last=True)
    return loader_train, DataLoader(val, batch_size=256)


def train_one_epoch(epoch, model, loader, optimizer, loss_fn, lr_scheduler, mixup_fn, model_ema):
    model.train()
    losses_m, num_updates = AverageMeter(), epoch * len(loader)
    for input, target in loader:
        input, target = mixup_fn(input, target)
        loss = loss_fn(model(input), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if model_ema is not None:
            model_ema.update(model)
        num_updates += 1
        lr_scheduler.step_update(num_updates=num_updates)
        losses_m.update(loss.item(), input.size(0))
    _logger.info(f"Train: {epoch} Loss: {losses_m.avg:.4f}")


@torch.inference_mode()
def validate(model, loader):
    model.eval()
    top1_m = AverageMeter()
    for input, target in loader:
        top1_m.update(accuracy(model(input), target)[0].item(), input.size(0))
    return top1_m.avg


def main():
    setup_default_logging()
    args = parser.parse_args()
    random_seed(args.seed)
    model = create_digits_model(args)
    loader_train, loader_eval = create_loaders(args)
    optimizer = create_optimizer_v2(model, **optimizer_kwargs(cfg=args))
    lr_scheduler, num_epochs = create_scheduler_v2(
        optimizer, args.sched, num_epochs=args.epochs, warmup_epochs=args.warmup_epochs
    )
    mixup_fn = Mixup(mixup_alpha=args.mixup, label_smoothing=args.smoothing, num_classes=args.num_classes)
    model_ema = ModelEmaV3(model) if args.model_ema else None
    for epoch in range(num_epochs):
        train_one_epoch(
            epoch, model, loader_train, optimizer, SoftTargetCrossEntropy(), lr_scheduler, mixup_fn, model_ema
        )
        top1 = validate(model, loader_eval)
        lr_scheduler.step(epoch + 1, top1)
        _logger.info(f"*** Epoch {epoch} top1 {top1:.2f}")


if __name__ == "__main__":
    main()
