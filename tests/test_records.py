from __future__ import annotations

import importlib
import pkgutil

from autoopt import records


def test_every_record_is_found_in_the_package() -> None:
    """Readers import from `autoopt.records`, wherever below it a record is."""
    parts = [
        importlib.import_module(f"{records.__name__}.{m.name}")
        for m in pkgutil.iter_modules(records.__path__)
    ]
    defined = {
        name
        for part in parts
        for name, value in vars(part).items()
        if isinstance(value, type) and value.__module__ == part.__name__
    }
    assert {"Settings", "TrialResult", "Recommendation", "RunEnded"} <= defined
    assert defined <= set(records.__all__)
    assert len(set(records.__all__)) == len(records.__all__)
