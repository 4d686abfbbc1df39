"""Memory of a training step: measured here; torch is imported by the modules, not by the package."""
