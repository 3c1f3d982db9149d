"""``chainrule predict``: the network of a run on other rows."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import click

__all__ = ["predict_command"]


@click.command("predict")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("data")
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the CSV here (default: standard output)."
)
@click.option("--last", is_flag=True, help="Use the last weights instead of the best.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of CSV.")
def predict_command(run: Path, data: str, output: Path | None, last: bool, as_json: bool) -> None:
    """Predict with the network in the folder RUN on the rows of DATA.

    DATA is a bundled set, a CSV or an NPZ file with the columns that the network was trained on; others are ignored.
    Text columns must hold values that they had in training.
    For classes each row gives the label and its probability.
    """
    import numpy as np

    import chainrule as torch

    from ..data import BUNDLED, read_features
    from ..errors import UsageError
    from ..training.model import build
    from ..training.runfolder import RunFolder, load_weights

    folder, config, schema = RunFolder.open(run)
    if data in BUNDLED:
        table = BUNDLED[data]()
        if table.feature_names != schema.feature_names:
            raise UsageError(f"{run} was trained on other columns than those of {data!r}")
        raw = table.x
    else:
        raw = read_features(data, schema.feature_names, schema.categories)
    model = build(len(schema.feature_names), schema.outputs, config)
    file = folder.last if last or not folder.best.exists() else folder.best
    state = folder.load(file)
    load_weights(model, state.get("model") if file == folder.last else state, file)
    model.eval()
    with torch.no_grad():
        out = model(torch.from_numpy(schema.features(raw)))
    rows: list[dict[str, Any]]
    if schema.kind == "classification":
        p = torch.softmax(out, dim=1).numpy()
        best = p.argmax(axis=1)
        rows = [
            {"row": i + 1, schema.target_name: schema.class_names[k], "probability": float(p[i, k])}
            for i, k in enumerate(best)
        ]
    else:
        values = out.numpy()[:, 0].astype(np.float64) * schema.target_std + schema.target_mean
        rows = [{"row": i + 1, schema.target_name: float(v)} for i, v in enumerate(values)]
    try:
        stream = output.open("w", newline="", encoding="utf-8") if output else sys.stdout
    except OSError as error:
        raise UsageError(f"{output}: cannot be written ({error.strerror})") from None
    try:
        if as_json:
            json.dump(rows, stream)
            stream.write("\n")
        else:
            writer = csv.DictWriter(stream, fieldnames=list(rows[0]) if rows else ["row"], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    finally:
        if output:
            stream.close()
