"""Tuners against the clock: the product and what else one could do, each the same seconds on the same two cores.

python -m benchmarks.choice.live                    # everything that is missing; an interrupted one goes on
python -m benchmarks.choice.live --report           # the results so far as tables

How it goes: `__main__.py`. The tuners: `tuners.py`, each in a file of its own. Their workers: `crew.py` and
`worker.py`. What a choice is worth: `scores.py` and `standing.py`.
"""
