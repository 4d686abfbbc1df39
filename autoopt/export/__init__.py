"""A run in the formats of others: Optuna, MLflow, TensorBoard, CSV, Parquet. A file a target.

>>> from autoopt.export import export
>>> export("autoopt-out/model", csv="trials.csv")  # doctest: +SKIP
"""

from autoopt.export.main import export as export

__all__ = ["export"]
