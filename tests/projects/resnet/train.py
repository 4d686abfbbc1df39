import argparse
import os
import time

import numpy as np
import resnet
import torch
import utils
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def train_one_epoch(
    model, criterion, optimizer, data_loader, device, epoch, args, model_ema=None, scaler=None
):
    model.train()
    for i, (image, target) in enumerate(data_loader):
        image, target = image.to(device), target.to(device)
        with torch.amp.autocast(device.type, dtype=torch.bfloat16, enabled=args.amp):
            output = model(image)
            loss = criterion(output, target)
        optimizer.zero_grad()
        loss.backward()
        if args.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad_norm)
        optimizer.step()
        if model_ema and i % args.model_ema_steps == 0:
            model_ema.update_parameters(model)
            if epoch < args.lr_warmup_epochs:
                model_ema.n_averaged.fill_(0)  # reset ema buffer to keep copying weights during warmup period
    print(f"Epoch: [{epoch}] loss {loss.item():.4f} lr {optimizer.param_groups[0]['lr']:.4g}")


def evaluate(model, criterion, data_loader, device, log_suffix=""):
    model.eval()
    n, total_loss, total_acc = 0, 0.0, 0.0
    with torch.inference_mode():
        for image, target in data_loader:
            output = model(image.to(device))
            n += len(target)
            total_loss += criterion(output, target.to(device)).item() * len(target)
            total_acc += utils.accuracy(output, target.to(device))[0].item() * len(target)
    print(f"Test: {log_suffix} Acc@1 {total_acc / n:.3f} loss {total_loss / n:.4f}")
    return total_acc / n


def load_data(args):
    table = torch.from_numpy(np.loadtxt(args.data_path, delimiter=",", dtype=np.float32))
    images, labels = table[:, :64].view(-1, 1, 8, 8) / 16, table[:, 64].long()
    return TensorDataset(images[:1200], labels[:1200]), TensorDataset(images[1200:], labels[1200:])


def main(args):
    os.makedirs(args.output_dir, exist_ok=True)
    torch.manual_seed(args.seed)
    device = torch.device(args.device)
    dataset, dataset_test = load_data(args)
    data_loader = DataLoader(
        dataset, batch_size=args.batch_size, shuffle=True, num_workers=args.workers, drop_last=True
    )
    data_loader_test = DataLoader(dataset_test, batch_size=256, num_workers=args.workers)
    model = resnet.__dict__[args.model](num_classes=10).to(device)
    criterion = nn.CrossEntropyLoss(label_smoothing=args.label_smoothing)
    parameters = utils.set_weight_decay(model, args.weight_decay, args.norm_weight_decay)
    optimizer = torch.optim.SGD(
        parameters, lr=args.lr, momentum=args.momentum, weight_decay=args.weight_decay
    )
    main_lr_scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, T_max=args.epochs - args.lr_warmup_epochs
    )
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, total_iters=args.lr_warmup_epochs)
    lr_scheduler = torch.optim.lr_scheduler.SequentialLR(
        optimizer, [warmup, main_lr_scheduler], milestones=[args.lr_warmup_epochs]
    )
    model_ema = utils.ExponentialMovingAverage(model, decay=args.model_ema_decay) if args.model_ema else None
    start_time = time.time()
    for epoch in range(args.epochs):
        train_one_epoch(model, criterion, optimizer, data_loader, device, epoch, args, model_ema)
        lr_scheduler.step()
        evaluate(model, criterion, data_loader_test, device)
        if model_ema:
            evaluate(model_ema, criterion, data_loader_test, device, log_suffix="EMA")
        torch.save(
            {"model": model.state_dict(), "args": args}, os.path.join(args.output_dir, "checkpoint.pth")
        )
    print(f"Training time {time.time() - start_time:.1f}s")


def get_args_parser():
    parser = argparse.ArgumentParser(description="PyTorch Classification Training")
    parser.add_argument("--data-path", default="digits.csv.gz", type=str)
    parser.add_argument("--model", default="resnet8", type=str)
    parser.add_argument("--device", default="cpu", type=str)
    parser.add_argument("-b", "--batch-size", default=64, type=int)
    parser.add_argument("--epochs", default=10, type=int)
    parser.add_argument("-j", "--workers", default=0, type=int)
    parser.add_argument("--lr", default=0.1, type=float)
    parser.add_argument("--momentum", default=0.9, type=float)
    parser.add_argument("--wd", "--weight-decay", default=1e-4, type=float, dest="weight_decay")
    parser.add_argument("--norm-weight-decay", default=None, type=float)
    parser.add_argument("--label-smoothing", default=0.1, type=float)
    parser.add_argument("--lr-warmup-epochs", default=1, type=int)
    parser.add_argument("--clip-grad-norm", default=None, type=float)
    parser.add_argument("--model-ema", action="store_true")
    parser.add_argument("--model-ema-steps", type=int, default=4)
    parser.add_argument("--model-ema-decay", type=float, default=0.98)
    parser.add_argument("--amp", action="store_true")
    parser.add_argument("--seed", default=0, type=int)
    parser.add_argument("--output-dir", default=".", type=str)
    return parser


if __name__ == "__main__":
    main(get_args_parser().parse_args())
