import numpy as np
import torch


class Interactions:
    """(user, item) pairs; of each user with three items or more, the last one is held out."""

    def __init__(self, path):
        carrier, origin, dest, month, *_ = np.loadtxt(path, str, delimiter=",", skiprows=1).T
        user_names = np.char.add(np.char.add(np.char.add(carrier, origin), "-"), month)
        self.user_vocab, users = np.unique(user_names, return_inverse=True)
        self.item_vocab, items = np.unique(dest, return_inverse=True)
        pairs = np.unique(np.stack([users, items], 1), axis=0)
        rng = np.random.default_rng(0)
        rng.shuffle(pairs)
        held = {u: i for i, u in enumerate(pairs[:, 0]) if (pairs[:, 0] == u).sum() >= 3}
        mask = np.zeros(len(pairs), bool)
        mask[list(held.values())] = True
        train, test = torch.from_numpy(pairs[~mask]), torch.from_numpy(pairs[mask])
        self.users, self.items = train.T
        self.test_users, self.test_items = test.T
        self.n_users, self.n_items = len(self.user_vocab), len(self.item_vocab)
        self.seen = torch.zeros(self.n_users, self.n_items, dtype=torch.bool)
        self.seen[self.users, self.items] = True


def sampler(interactions, batch_size):
    """One epoch of (users, positive items, negative items)."""
    order = torch.randperm(len(interactions.users))
    for index in order.split(batch_size):
        users, positive = interactions.users[index], interactions.items[index]
        negative = torch.randint(interactions.n_items, positive.shape)
        yield users, positive, negative
