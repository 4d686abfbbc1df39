"""Recommends destinations to (carrier, origin, date) "users": matrix factorisation with BPR, recall@k.

python -m recommender.train --data flights.csv.gz
"""

import argparse

import torch

from .data import Interactions, sampler
from .model import BPR


@torch.no_grad()
def recall_at_k(model, interactions, k=5):
    """Share of held-out items among the k best scores, items seen in training left out."""
    scores = model.scores(interactions.test_users)
    scores.masked_fill_(interactions.seen[interactions.test_users], float("-inf"))
    top = scores.topk(k, dim=1).indices
    return (top == interactions.test_items[:, None]).any(1).float().mean().item()


def main(args):
    torch.manual_seed(args.seed)
    interactions = Interactions(args.data)
    model = BPR(interactions.n_users, interactions.n_items, args.dim)
    optimizer = torch.optim.SparseAdam(list(model.parameters()), lr=args.lr)
    for epoch in range(args.epochs):
        model.train()
        for users, positive, negative in sampler(interactions, args.batch_size):
            optimizer.zero_grad()
            loss = model.bpr_loss(users, positive, negative)
            loss.backward()
            optimizer.step()
        model.eval()
        print(f"epoch {epoch} loss {loss.item():.4f} recall@5 {recall_at_k(model, interactions):.4f}")


def parse_args(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--dim", type=int, default=16)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


if __name__ == "__main__":
    main(parse_args())
