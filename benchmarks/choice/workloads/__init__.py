"""The workloads, each a `model.py` in autoopt's contract: `autoopt profile benchmarks/choice/workloads/vit.py`."""
