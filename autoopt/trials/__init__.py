"""Trials: a TrialSpec becomes a TrialResult, in this process or in warm worker processes.

Nothing is imported here, so that the first moment of a worker process stays cheap.
"""
