"""What autoopt needs: `autoopt profile recommender.tune:Task -- --data flights.csv.gz`."""

from .data import Interactions, sampler
from .model import BPR
from .train import parse_args, recall_at_k


class Task:
    METRIC = ("recall@5", "max")

    def __init__(self, *argv):
        self.args = parse_args(argv)
        self.interactions = Interactions(self.args.data)

    def build_model(self):
        return BPR(self.interactions.n_users, self.interactions.n_items, self.args.dim)

    def train_dataloader(self):
        return sampler(self.interactions, self.args.batch_size)

    def loss(self, model, batch):
        return model.bpr_loss(*batch)

    def evaluate(self, model):
        return {"recall@5": recall_at_k(model, self.interactions)}
