"""recommendation.yaml: a Recommendation as text a person reads first and a program second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from autoopt.errors import RunError
from autoopt.files import plain, read_record, write_text
from autoopt.records import Recommendation
from autoopt.report.words import command

FILE_NAME = "recommendation.yaml"

_COMMENTS = {
    "recommendation": "what to train with; groups are multiples of the base rate and weight decay",
    "expected": "at the length it was measured at (steps), over so many seeds",
    "against_yours": "the gain over the optimizer you have today",
    "confidence": "how far to trust it, and why",
    "promise": "where losses of the real run lie with 90 % probability; autoopt.Watch tests it",
    "optimizers": "best first, with what each would cost",
    "cut": "not tried, and why",
    "settings": "the real run; origins says where each setting came from",
    "workload": "what was measured",
    "ledger": "seconds, summed over workers; wall is start to end",
    "spent": "the budget; seconds of trials are summed over workers",
    "more": "what a larger budget could reach",
    "effort": "trials of each optimizer in each stage",
    "race": "round by round: who had trials, the chance of having the best configuration after it, who left",
    "rates": "what is believed of learning rates at the real length, with 90 % bands; chosen first",
    "provenance": "what it takes to repeat this",
}
_LINE = 110
_SHORT = 90


class _Dumper(yaml.SafeDumper):
    """Short collections of numbers and words on one line, everything else in blocks."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  PyYAML's signature
        """Writes repeated values out: anchors are for machines."""
        return True

    def serialize(self, node: yaml.Node) -> None:
        """Keeps the top level in blocks, as comments stand between its keys."""
        if isinstance(node, yaml.CollectionNode):
            node.flow_style = False
        super().serialize(node)

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:
        node = super().represent_mapping(tag, mapping, flow_style)
        node.flow_style = _short(list(mapping.keys()) + list(mapping.values()))
        return node

    def represent_sequence(
        self, tag: str, sequence: Any, flow_style: bool | None = None
    ) -> yaml.SequenceNode:
        node = super().represent_sequence(tag, sequence, flow_style)
        node.flow_style = _short(sequence)
        return node


def dump(rec: Recommendation) -> str:
    """`rec` as YAML, a comment over each section; `load` gives back an equal record."""
    data = plain(rec)
    parts = [
        f"# {_headline(rec)}\n# Train with it: {command(rec, 'train.py')}. See it: autoopt show, report.html.\n"
    ]
    for key, value in data.items():
        if key in _COMMENTS and value:
            parts.append(f"\n# {_COMMENTS[key]}\n")
        parts.append(
            yaml.dump({key: value}, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_LINE)
        )
    return "".join(parts)


def load(path: str | Path) -> Recommendation:
    """The recommendation in a YAML file, or in a run's folder.

    Raises:
        RunError: not there, not YAML, another schema, or a value that does not fit (named by its key).
    """
    where = Path(path)
    if not where.is_dir() and where.suffix not in (".yaml", ".yml", ".json"):
        what = "is no recommendation" if where.exists() else "does not exist"
        raise RunError(f"{where} {what}.", f"Give a run's folder, or the {FILE_NAME} in it.")
    return read_record(where / FILE_NAME if where.is_dir() else where, Recommendation)


def save(rec: Recommendation, path: str | Path) -> None:
    """Writes the YAML atomically; into the folder, if `path` is one."""
    where = Path(path)
    write_text(where / FILE_NAME if where.is_dir() else where, dump(rec))


def _headline(rec: Recommendation) -> str:
    return " ".join(rec.against_yours.sentence.split())


def _short(items: Any) -> bool:
    plain_items = all(item is None or isinstance(item, bool | int | float | str) for item in items)
    return plain_items and sum(len(str(item)) + 2 for item in items) <= _SHORT
