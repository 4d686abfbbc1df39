import torch


class ExponentialMovingAverage(torch.optim.swa_utils.AveragedModel):
    """Maintains moving averages of model parameters using an exponential decay."""

    def __init__(self, model, decay, device="cpu"):
        def ema_avg(avg_model_param, model_param, num_averaged):
            return decay * avg_model_param + (1 - decay) * model_param

        super().__init__(model, device, ema_avg, use_buffers=True)


def accuracy(output, target, topk=(1,)):
    with torch.inference_mode():
        _, pred = output.topk(max(topk), 1, True, True)
        correct = pred.t().eq(target[None])
        return [correct[:k].flatten().sum(dtype=torch.float32) * (100.0 / target.size(0)) for k in topk]


def set_weight_decay(model, weight_decay, norm_weight_decay=None):
    if norm_weight_decay is None:
        return model.parameters()
    norms = [p for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d) for p in m.parameters()]
    ids = {id(p) for p in norms}
    others = [p for p in model.parameters() if id(p) not in ids]
    return [
        {"params": others, "weight_decay": weight_decay},
        {"params": norms, "weight_decay": norm_weight_decay},
    ]
