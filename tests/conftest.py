"""For all tests: one thread each, since several run at once; no deadline, since a shared machine keeps none."""

from __future__ import annotations

import os

# Before torch is imported, here and in every process that a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis

hypothesis.settings.register_profile("autoopt", deadline=None)
hypothesis.settings.load_profile("autoopt")
