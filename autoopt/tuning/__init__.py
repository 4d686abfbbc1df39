"""Which trial next, and what the finished ones say. Knows Optuna (`study.py`), never torch."""
