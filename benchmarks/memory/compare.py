"""Predicted memory against measured, over nets and optimizers.

    python -m benchmarks.memory.compare                       # on the CPU, printed
    python -m benchmarks.memory.compare --device cuda --record # on a GPU, added to benchmarks/RESULTS.md
    python -m benchmarks.memory.compare --from FILE --record   # a table of what `--out FILE` kept elsewhere
    python -m benchmarks.memory.compare --against benchmarks/memory/h100.jsonl --record
                                                               # predicted now, measured once on that GPU

Predictions run in processes of their own, on fake tensors; measurements are real steps, the peak taken over the second
and third one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from autoopt.memory.answer import MemoryRequest
from autoopt.memory.batches import longest
from autoopt.optim import registry
from autoopt.records import Flags
from autoopt.trials.ask_memory import ask
from autoopt.workload import load
from benchmarks import results
from benchmarks.memory.measure import measure

COMMAND = "python -m benchmarks.memory.compare"
NETS = "benchmarks.memory.nets:make"
EXAMPLES = ("char_gpt", "digits_lightning", "digits_mlp", "digits_resnet", "flights")
_ON_CPU = {
    "resnet50": ("2", "160"),
    "vit_b": ("2", "224"),
    "gpt2": ("1", "256"),
    "llama_small": ("1", "256"),
    "lora": ("1", "256"),
    "padded": ("4", "128"),
}
_ON_GPU = {
    "resnet50": ("64", "224"),
    "vit_b": ("64", "224"),
    "gpt2": ("8", "1024"),
    "llama_small": ("8", "1024"),
    "lora": ("8", "1024"),
    "padded": ("64", "512"),
}
Case = tuple[str, str, list[str], str]
"""Name, target, arguments, precision."""


def cases(device: str, precisions: list[str], chosen: list[str]) -> list[Case]:
    """The nets at this device's sizes, and the examples."""
    sizes = _ON_GPU if device == "cuda" else _ON_CPU
    found: list[Case] = []
    for precision in precisions:
        found += [(name, NETS, [name, *size], precision) for name, size in sizes.items()]
        found += [(name, f"examples/{name}/model.py", [], precision) for name in EXAMPLES]
    return [case for case in found if not chosen or case[0] in chosen]


def predicted(case: Case, device: str, names: list[str]) -> dict[str, dict[str, Any]]:
    """Optimizer -> the row of `autoopt memory`."""
    _, target, arguments, precision = case
    request = MemoryRequest.model_validate(
        {
            "target": target,
            "arguments": arguments,
            "optimizers": names,
            "kind": device,
            "precision": precision,
        }
    )
    return {row.optimizer: row.model_dump() for row in ask(request, timeout=280).optimizers}


def measured(case: Case, device: str, names: list[str]) -> dict[str, dict[str, Any]]:
    """Optimizer -> real bytes, or why there are none."""
    _, target, arguments, precision = case
    workload = load(target, arguments, Flags.model_validate({"precision": precision}), device)
    try:
        batch = longest(workload).value
        model = workload.sketch().to(device)
        initial = {name: value.to("cpu", copy=True) for name, value in model.state_dict().items()}
        found: dict[str, dict[str, Any]] = {}
        for name in names:
            model.load_state_dict(initial)
            try:
                found[name] = dict(measure(workload, model, name, batch))
            except Exception as error:
                found[name] = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
        return found
    finally:
        workload.close()


def run(device: str, names: list[str], chosen: list[Case], workers: int) -> list[dict[str, Any]]:
    """A row for each case and optimizer."""
    rows = []
    with ThreadPoolExecutor(workers) as pool:
        asked = [pool.submit(predicted, case, device, names) for case in chosen]
        for case, future in zip(chosen, asked, strict=True):
            if device == "cpu":
                future.result()  # not while a measurement runs
            try:
                real = measured(case, device, names)
                guess = future.result()
            except Exception:
                traceback.print_exc()
                continue
            for name in names:
                row = {"net": case[0], "size": case[2][1:], "precision": case[3], "optimizer": name}
                rows.append({**row, "predicted": guess[name], "measured": real[name]})
                print(_line(rows[-1]), flush=True)
    return rows


def against(path: Path, chosen: list[str]) -> tuple[str, str, list[dict[str, Any]]]:
    """Where and on what kind of device it was measured, and those rows with a prediction of now.

    Args:
        path: a line that tells of the device, then a row for each net, precision and optimizer.
        chosen: nets; all if empty.
    """
    first, *lines = path.read_text().splitlines()
    about = json.loads(first)
    kept = [row for row in map(json.loads, lines) if not chosen or row["net"] in chosen]
    for key in dict.fromkeys((r["net"], tuple(r["size"]), r["precision"]) for r in kept):
        mine = [r for r in kept if (r["net"], tuple(r["size"]), r["precision"]) == key]
        name, size, precision = key
        case = (
            (name, NETS, [name, *size], precision)
            if size
            else (name, f"examples/{name}/model.py", [], precision)
        )
        guess = predicted(case, about["device"], [r["optimizer"] for r in mine])
        for row in mine:
            row["predicted"] = guess[row["optimizer"]]
            print(_line(row), flush=True)
    return about["where"], about["device"], kept


def _line(row: dict[str, Any]) -> str:
    guess, real = row["predicted"], row["measured"]
    error = _off(row)
    shown = "-" if error is None else f"{100 * error:+.1f} %"
    state = guess["state_bytes"] == real.get("state_bytes")
    return (
        f"{row['net']} {row['precision']} {row['optimizer']}: peak {guess['peak_bytes']} against "
        f"{real.get('peak_bytes')} ({shown}), state {'exact' if state else (guess['state_bytes'], real)} {guess['note']}"
    )


def _off(row: dict[str, Any]) -> float | None:
    guess, real = row["predicted"]["peak_bytes"], row["measured"].get("peak_bytes")
    return None if guess is None or real is None else guess / real - 1


def table(rows: list[dict[str, Any]]) -> str:
    """Per net and precision: the error of the peak over optimizers, and whether the state is exact."""
    head = (
        "net",
        "size",
        "precision",
        "AdamW's peak",
        "predicted: median error (worst)",
        "AdaHessian",
        "state exact",
    )
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for key in dict.fromkeys((r["net"], r["precision"]) for r in rows):
        mine = [r for r in rows if (r["net"], r["precision"]) == key]
        errors = {r["optimizer"]: e for r in mine if (e := _off(r)) is not None}
        second = errors.pop("adahessian", None)
        worst = max(errors, key=lambda n: abs(errors[n]))
        guess = {r["optimizer"]: r["predicted"]["state_bytes"] for r in mine}
        real = {r["optimizer"]: r["measured"] for r in mine if "state_bytes" in r["measured"]}
        exact = [name for name, found in real.items() if guess[name] == found["state_bytes"]]
        cells = (
            key[0],
            " x ".join(mine[0]["size"]) or "its own",
            key[1],
            f"{real['adamw']['peak_bytes'] / 2**20:,.0f} MiB" if "adamw" in real else "-",
            f"{100 * statistics.median(errors.values()):+.1f} % ({100 * errors[worst]:+.1f} % {worst})",
            "-" if second is None else f"{100 * second:+.1f} %",
            f"{len(exact)} of {len(real)}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", default="fp32", help="several by commas")
    parser.add_argument("--nets", default="", help="names by commas; all by default")
    parser.add_argument("--optimizers", default="", help="names by commas; all by default")
    parser.add_argument("--workers", type=int, default=1, help="predictions at a time")
    parser.add_argument("--out", type=Path, help="keeps the rows as JSON")
    parser.add_argument("--from", dest="source", type=Path, help="rows that --out kept")
    parser.add_argument("--against", type=Path, help="measurements of a GPU that is not here")
    parser.add_argument("--record", action="store_true")
    asked = parser.parse_args()
    names = [n for n in asked.optimizers.split(",") if n] or registry.names()
    nets = [n for n in asked.nets.split(",") if n]
    if asked.against:
        where, device, rows = against(asked.against, nets)
    elif asked.source:
        kept = json.loads(asked.source.read_text())
        rows, where, device = kept["rows"], kept["where"], kept["device"]
    else:
        device = asked.device
        chosen = cases(device, asked.precision.split(","), nets)
        rows = run(device, names, chosen, asked.workers)
        where = (
            torch.cuda.get_device_name() + f", torch {torch.__version__}"
            if device == "cuda"
            else results.machine()
        )
        if asked.out:
            asked.out.write_text(json.dumps({"where": where, "device": device, "rows": rows}))
    text = f"{where}.\n\n{table(rows)}"
    if asked.record:
        command = " ".join([COMMAND, *(word for word in sys.argv[1:] if word != "--record")])
        results.append(results.heading(f"Memory, predicted against measured on {device}", command) + text)
    else:
        print(text)


if __name__ == "__main__":
    main()
