"""Saves train.bin, val.bin and meta.pkl: characters of the standard library's sources as uint16."""

import os
import pickle
import sysconfig

import numpy as np

stdlib = sysconfig.get_path("stdlib")
data = "".join(
    open(os.path.join(stdlib, f"{m}.py")).read() for m in ("argparse", "calendar", "difflib", "textwrap")
)
chars = sorted(set(data))
stoi = {ch: i for i, ch in enumerate(chars)}
ids = np.array([stoi[c] for c in data], dtype=np.uint16)
here = os.path.dirname(__file__)
ids[: int(len(ids) * 0.9)].tofile(os.path.join(here, "train.bin"))
ids[int(len(ids) * 0.9) :].tofile(os.path.join(here, "val.bin"))
with open(os.path.join(here, "meta.pkl"), "wb") as f:
    pickle.dump({"vocab_size": len(chars), "stoi": stoi, "itos": dict(enumerate(chars))}, f)
