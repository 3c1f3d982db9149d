"""Real data that comes with the package; ``bundled/SOURCES.md`` says where each set is from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .tables import Table, read_table

__all__ = ["BUNDLED", "load_diabetes", "load_digits"]

_FOLDER = Path(__file__).parent / "bundled"


def load_digits() -> Table:
    """Handwritten digits: 1797 images of 8×8 pixels as rows of 64 numbers, 0 (paper) to 16 (ink), and their class 0-9.

    The test part of UCI's "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998), written by 13 people.

    >>> digits = load_digits()
    >>> digits.x.shape, digits.kind, len(digits.class_names)
    ((1797, 64), 'classification', 10)
    """
    with np.load(_FOLDER / "digits.npz", allow_pickle=False) as archive:
        x, y = archive["x"].astype(np.float64), archive["y"].astype(np.int64)
    return Table(
        x,
        y,
        feature_names=tuple(f"pixel_{row}_{column}" for row in range(8) for column in range(8)),
        target_name="digit",
        kind="classification",
        class_names=tuple("0123456789"),
        source="E. Alpaydin, C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI Machine Learning "
        "Repository, doi:10.24432/C50P49 (test part)",
        licence="CC BY 4.0",
    )


def load_diabetes() -> Table:
    """Diabetes: 442 patients, ten measurements in their own units, and the progression of the disease a year later.

    From Efron, Hastie, Johnstone and Tibshirani, "Least Angle Regression", Annals of Statistics 32 (2004), 407-499.

    >>> diabetes = load_diabetes()
    >>> diabetes.x.shape, diabetes.kind, diabetes.feature_names[:4]
    ((442, 10), 'regression', ('age', 'sex', 'bmi', 'bp'))
    """
    table = read_table(_FOLDER / "diabetes.csv.gz", "progression", kind="regression")
    return Table(
        table.x,
        table.y,
        feature_names=table.feature_names,
        target_name=table.target_name,
        kind=table.kind,
        source="B. Efron, T. Hastie, I. Johnstone, R. Tibshirani (2004), Least Angle Regression, Annals of Statistics "
        "32(2), 407-499, doi:10.1214/009053604000000067",
        licence="published by the authors without a stated licence; see bundled/SOURCES.md",
    )


BUNDLED = {"digits": load_digits, "diabetes": load_diabetes}
"""Name on the command line → loader."""
