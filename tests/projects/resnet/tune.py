"""What autoopt needs of train.py: `autoopt profile tune.py -- --data-path digits.csv.gz --model-ema`."""

import resnet
import utils
from torch import nn, optim
from torch.utils.data import DataLoader
from train import get_args_parser, load_data

METRIC = ("acc1", "max")
args = get_args_parser().parse_args()
dataset, dataset_test = load_data(args)
criterion = nn.CrossEntropyLoss(label_smoothing=args.label_smoothing)
STEPS = args.epochs * (len(dataset) // args.batch_size)
model_ema = None


def build_model():
    return resnet.__dict__[args.model](num_classes=10)


def train_dataloader():
    return DataLoader(dataset, batch_size=args.batch_size, shuffle=True, drop_last=True)


def val_dataloader():
    return DataLoader(dataset_test, batch_size=256)


def loss(model, batch):
    return criterion(model(batch[0]), batch[1])


def configure_optimizers(model):
    parameters = utils.set_weight_decay(model, args.weight_decay, args.norm_weight_decay)
    optimizer = optim.SGD(parameters, lr=args.lr, momentum=args.momentum, weight_decay=args.weight_decay)
    main = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs - args.lr_warmup_epochs)
    warmup = optim.lr_scheduler.LinearLR(optimizer, 0.01, total_iters=args.lr_warmup_epochs)
    scheduler = optim.lr_scheduler.SequentialLR(optimizer, [warmup, main], milestones=[args.lr_warmup_epochs])
    return [optimizer], [{"scheduler": scheduler, "interval": "epoch"}]


def after_step(model, ctx):
    global model_ema
    if not args.model_ema:
        return
    if ctx.step == 1:
        model_ema = utils.ExponentialMovingAverage(model, decay=args.model_ema_decay)
    if ctx.step % args.model_ema_steps == 0:
        model_ema.update_parameters(model)


def evaluate(model, batches):
    if model_ema is not None:
        model = model_ema.eval()
    accuracies = [utils.accuracy(model(x), y)[0] * len(y) for x, y in batches]
    return {"acc1": sum(accuracies).item() / len(dataset_test)}
