import torch.nn as nn
import torch.nn.functional as F


class BPR(nn.Module):
    """Matrix factorisation for implicit feedback (Rendle et al. 2009)."""

    def __init__(self, n_users, n_items, dim):
        super().__init__()
        self.user = nn.Embedding(n_users, dim, sparse=True)
        self.item = nn.Embedding(n_items, dim, sparse=True)
        self.item_bias = nn.Embedding(n_items, 1, sparse=True)
        nn.init.normal_(self.user.weight, std=0.1)
        nn.init.normal_(self.item.weight, std=0.1)
        nn.init.zeros_(self.item_bias.weight)

    def forward(self, users, items):
        return (self.user(users) * self.item(items)).sum(-1) + self.item_bias(items).squeeze(-1)

    def scores(self, users):
        return self.user(users) @ self.item.weight.T + self.item_bias.weight.T

    def bpr_loss(self, users, positive, negative):
        return -F.logsigmoid(self(users, positive) - self(users, negative)).mean()
