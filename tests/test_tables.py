"""Tables: what is read, and the exact sentence for everything that cannot be."""

from __future__ import annotations

import gzip
import os
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule import errors
from chainrule.data import (
    BUNDLED,
    CellError,
    FileError,
    RowError,
    TableError,
    TargetError,
    load_diabetes,
    load_digits,
    moments,
    read_features,
    read_table,
    standardize,
    train_validation_split,
)

GOOD = "a,b,y\n1,2.5,0\n3,4e1,1\n-5,6,0\n7,8,1\n"


@pytest.fixture
def put(tmp_path, monkeypatch):
    """Write a file into the current folder, so that messages show its bare name."""
    monkeypatch.chdir(tmp_path)

    def write(content, name="t.csv"):
        data = content.encode() if isinstance(content, str) else content
        (tmp_path / name).write_bytes(data)
        return name

    return write


# ----------------------------------------------------------------------------------------------------------- bundled


def test_digits_are_the_uci_test_set():
    digits = load_digits()
    assert digits.x.shape == (1797, 64)
    assert digits.x.dtype == np.float64
    assert (digits.x.min(), digits.x.max()) == (0, 16)
    # class counts of the test part, from the repository's own description of the data
    assert np.bincount(digits.y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert digits.class_names == tuple("0123456789")
    assert len(digits.feature_names) == 64
    assert "CC BY 4.0" in digits.licence


def test_diabetes_is_the_least_angle_regression_table():
    table = load_diabetes()
    assert (table.x.shape, table.kind, table.class_names) == ((442, 10), "regression", ())
    assert table.x[0].tolist() == [59, 2, 32.1, 101, 157, 93.2, 38, 4, 4.8598, 87]
    assert table.y[0] == 151
    # ordinary least squares on this table explains 51.77 % of the variance, as published
    design = np.column_stack([np.ones(442), table.x])
    residual = table.y - design @ np.linalg.lstsq(design, table.y, rcond=None)[0]
    assert 1 - residual.var() / table.y.var() == pytest.approx(0.5177, abs=5e-5)


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_sets_say_where_they_are_from(name):
    table = BUNDLED[name]()
    assert table.source
    assert table.licence
    assert len(table.x) == len(table.y)
    with pytest.raises(AttributeError):
        table.kind = "other"


# ------------------------------------------------------------------------------------------------------ what is read


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        GOOD.replace("\n", "\r\n"),
        "\ufeff" + GOOD,
        GOOD.replace(",", ";"),
        GOOD.replace(",", "\t"),
        GOOD.replace(",", ", "),
        "\n" + GOOD.replace("1\n", "1\n\n") + "\n\n",
        GOOD.replace("2.5", '"2.5"').replace("a,", '"a",', 1),
        GOOD.rstrip("\n"),
    ],
    ids=["plain", "CRLF", "BOM", "semicolon", "tab", "spaces", "blank-lines", "quotes", "no-last-newline"],
)
def test_the_same_table_in_many_spellings(put, text):
    table = read_table(put(text))
    np.testing.assert_array_equal(table.x, [[1, 2.5], [3, 40], [-5, 6], [7, 8]])
    assert table.y.tolist() == [0, 1, 0, 1]
    assert (table.feature_names, table.target_name) == (("a", "b"), "y")
    assert (table.kind, table.class_names, table.source) == ("classification", ("0", "1"), "t.csv")


def test_gzip_is_read(put):
    assert read_table(put(gzip.compress(GOOD.encode()), "t.csv.gz")).x.shape == (4, 2)


def test_quoted_cells_may_hold_separators_quotes_and_newlines(put):
    text = '"width, cm","the ""b""",kind\n1,2,"big, red"\n3,4,"two\nlines"\n'
    table = read_table(put(text))
    assert table.feature_names == ("width, cm", 'the "b"')
    assert table.class_names == ("big, red", "two\nlines")


def test_a_file_without_header_gets_numbered_columns(put):
    table = read_table(put("5.1,3.5,setosa\n6.0,2.9,virginica\n5.0,3.4,setosa\n"))
    assert table.feature_names == ("column 1", "column 2")
    assert table.x.shape == (3, 2)
    assert table.class_names == ("setosa", "virginica")
    assert table.y.tolist() == [0, 1, 0]


def test_the_target_may_stand_anywhere(put):
    table = read_table(put(GOOD), "a")
    assert table.feature_names == ("b", "y")
    assert table.y.tolist() == [1, 3, -5, 7]
    assert table.kind == "regression"


@pytest.mark.parametrize(
    ("target", "kind", "classes"),
    [
        (["1", "2", "1", "2"], "classification", ("1", "2")),
        (["1.0", "2.0", "1", "2"], "classification", ("1", "2")),
        (["10", "9", "10", "9"], "classification", ("9", "10")),
        (["1", "2", "3", "4"], "regression", ()),  # one row each: a quantity
        (["1.5", "2.5", "1.5", "2.5"], "regression", ()),
        (["b", "a", "c", "d"], "classification", ("a", "b", "c", "d")),
        (["1", "2", "3a", "3b"], "classification", ("1", "2", "3a", "3b")),
        ([str(i % 20) for i in range(40)], "classification", tuple(map(str, range(20)))),
        ([str(i % 21) for i in range(42)], "regression", ()),
    ],
    ids=["whole", "points", "order", "unique", "fractions", "text", "half-text", "twenty", "twenty-one"],
)
def test_classes_or_numbers(put, target, kind, classes):
    table = read_table(put("x,y\n" + "".join(f"0.5,{t}\n" for t in target)))
    assert (table.kind, table.class_names) == (kind, classes)
    if classes and target[0][0] != "1":
        assert [classes[i] for i in table.y] == target


def test_kind_overrides_the_rule(put):
    name = put(GOOD)
    assert read_table(name, kind="regression").y.dtype == np.float64
    assert read_table(name, "a", kind="classification").class_names == ("-5", "1", "3", "7")
    with pytest.raises(errors.UsageError, match="kind must be 'classification' or 'regression', it is 'other'"):
        read_table(name, kind="other")


def test_classes_of_an_earlier_table_keep_their_numbers(put):
    name = put("x,y\n1,b\n2,b\n")
    assert read_table(name, class_names=("a", "b", "c")).y.tolist() == [1, 1]
    with pytest.raises(TargetError) as raised:
        read_table(name, class_names=("apple", "bb"))
    assert str(raised.value) == "t.csv: row 1, target 'y': no class 'b', did you mean 'bb'?"


def test_large_numbers_pass_up_to_a_limit(put):
    assert read_table(put("x,y\n1e300,1.5\n-1E299,2\n")).x.tolist() == [[1e300], [-1e299]]


def test_features_are_found_by_name_or_by_position(put):
    expected = [[2.5, 1], [40, 3], [6, -5], [8, 7]]
    assert read_features(put(GOOD), ["b", "a"]).tolist() == expected
    assert read_features(put("2.5,1\n40,3\n6,-5\n8,7\n"), ["b", "a"]).tolist() == expected
    np.savez("t.npz", x=np.array(expected))
    assert read_features("t.npz", ["b", "a"]).tolist() == expected
    with pytest.raises(TableError) as raised:
        read_features(put(GOOD), ["a", "width"])
    expected_words = "t.csv: no column 'width', there is 'a', 'b', 'y', which the model was trained on"
    assert str(raised.value) == expected_words
    with pytest.raises(TableError, match="3 columns without a header, the model was trained on 2"):
        read_features(put("1,2,3\n"), ["b", "a"])
    with pytest.raises(TableError, match="x has 2 columns, the model was trained on 3"):
        read_features("t.npz", ["a", "b", "c"])


@given(
    st.lists(
        st.tuples(*[st.floats(-1e300, 1e300, allow_nan=False)] * 3, st.sampled_from(["red", "a,b", 'say "hi"', "é"])),
        min_size=2,
    ).filter(lambda rows: len({row[3] for row in rows}) > 1)
)
def test_what_the_csv_module_writes_is_read_back_to_the_last_bit(tmp_path_factory, rows):
    import csv

    path = tmp_path_factory.mktemp("round") / "t.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["p", "q", "r", "colour"], *rows])
    table = read_table(path)
    np.testing.assert_array_equal(table.x, [row[:3] for row in rows])
    assert [table.class_names[i] for i in table.y] == [row[3] for row in rows]


# ------------------------------------------------------------------------------------------------ bad input: the CSV

BAD_CSV = [
    ("empty", b"", FileError, "t.csv: the file is empty"),
    ("blank", "\n \n\n", FileError, "t.csv: the file is empty"),
    ("only-BOM", "\ufeff", FileError, "t.csv: the file is empty"),
    ("header-only", "a,b\n", FileError, "t.csv: there is a header and no rows below it"),
    ("one-column", "a\n1\n2\n", RowError, "t.csv: one column only, a table needs at least one feature and the target"),
    ("short-row", "a,b,y\n1,2,3\n1,2\n", RowError, "t.csv: row 2 (line 3) has 2 cells, line 1 has 3"),
    ("long-row", "1,2\n\n3,4\n5,6,7\n", RowError, "t.csv: row 3 (line 4) has 3 cells, line 1 has 2"),
    ("text", "a,y\n1,0\nred,1\n", CellError, "t.csv: row 2 (line 3), column 'a': 'red' is not a number"),
    (
        "text-column",
        "kind,y\nred,0\nblue,1\n",
        TargetError,
        (
            "t.csv: column 'kind' holds text, so name the target: --target kind if it is this one, "
            "--target y if it is a category to predict from"
        ),
    ),
    ("long-text", f"a,y\n{'x' * 99},0\n1,1\n", CellError,
     f"t.csv: row 1 (line 2), column 'a': '{'x' * 37}…' is not a number"),
    ("decimal-comma", "a;y\n1,5;0\n2,5;1\n", CellError,
     "t.csv: row 1 (line 2), column 'a': '1,5' is not a number; write 1.5 with a point"),
    ("underscore", "a,y\n1_0,0\n2,1\n", CellError, "t.csv: row 1 (line 2), column 'a': '1_0' is not a number"),
    ("other-digits", "a,y\n１２,0\n2,1\n", CellError, "t.csv: row 1 (line 2), column 'a': '１２' is not a number"),
    ("empty-cell", "a,b,y\n1,,0\n1,1,1\n", CellError,
     "t.csv: row 1 (line 2), column 'b': the cell is empty, a number belongs there"),
    ("empty-target", "a,y\n1,0\n1, \n", CellError,
     "t.csv: row 2 (line 3), column 'y': the cell is empty, the target needs a value"),
    ("nan", "a,y\n1,0\nnan,1\n", CellError, "t.csv: row 2 (line 3), column 'a': 'nan' is not finite"),
    ("inf", "a,y\n1,0\n-Infinity,1\n", CellError, "t.csv: row 2 (line 3), column 'a': '-Infinity' is not finite"),
    ("nan-target", "a,y\n1,0\n1,NaN\n", CellError, "t.csv: row 2 (line 3), column 'y': 'NaN' is not finite"),
    ("huge", "a,y\n1e301,0\n1,1\n", CellError,
     "t.csv: row 1 (line 2), column 'a': '1e301' is too large, the limit is 1e+300"),
    ("overflow", "a,y\n1e999,0\n1,1\n", CellError,
     "t.csv: row 1 (line 2), column 'a': '1e999' is too large, the limit is 1e+300"),
    ("typo-in-target", "a,y\n1,0.5\n2,1.5\n3,1.x\n4,2\n", CellError,
     "t.csv: row 3 (line 4), column 'y': '1.x' is not a number"),
    ("after-quoted-newline", 'a,b,y\n1,2,"u\nv"\n1,x,w\n2,3,w\n', CellError,
     "t.csv: row 2 (line 4), column 'b': 'x' is not a number"),
    ("duplicate", "a,b,a\n1,2,3\n", FileError, "t.csv: two columns are called 'a', rename one"),
    ("one-class", "a,y\n1,cat\n2,cat\n", TargetError,
     "t.csv: target 'y' has one class only ('cat' in every row), nothing to learn"),
    ("one-number-class", "a,y\n1,3\n2,3\n", TargetError,
     "t.csv: target 'y' has one class only ('3' in every row), nothing to learn"),
    ("one-value", "a,y\n1,0.5\n2,0.5\n", TargetError,
     "t.csv: target 'y' has one value only ('0.5' in every row), nothing to learn"),
    ("latin-1", "a,y\n1,0\n2,caf\u00e9\n".encode("latin-1"), FileError,
     "t.csv: line 3 is not UTF-8 text (byte 0xe9), save the file as UTF-8"),
    ("utf-16", GOOD.encode("utf-16"), FileError, "t.csv: the text is UTF-16, save it as UTF-8"),
    ("NUL", b"a,y\n1,\0\n", FileError, "t.csv: this is not a text file (it holds NUL bytes)"),
    ("open-quote", 'a,y\n1,0\n"2,1\n', FileError, "t.csv: line 3 is not valid CSV (unexpected end of data)"),
    ("xlsx", b"PK\x03\x04....", FileError, "t.csv: this is a ZIP file or a spreadsheet, not CSV; export it as CSV"),
    ("gzip", gzip.compress(GOOD.encode())[:-9], FileError, "t.csv: the gzip data is damaged"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "error", "sentence"), [c[1:] for c in BAD_CSV], ids=[c[0] for c in BAD_CSV])
def test_bad_csv(put, content, error, sentence):
    with pytest.raises(error) as raised:
        read_table(put(content))
    assert str(raised.value) == sentence
    assert isinstance(raised.value, errors.UsageError)


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("widht", "t.csv: no column 'widht', did you mean 'width'?"),
        ("WIDTH", "t.csv: no column 'WIDTH', did you mean 'width'?"),
        ("zzz", "t.csv: no column 'zzz', there is 'width', 'height', 'kind', 'kind_2'"),
        ("kinds_", "t.csv: no column 'kinds_', did you mean 'kind_2' or 'kind'?"),
    ],
    ids=["typo", "case", "foreign", "two"],
)
def test_unknown_target(put, target, sentence):
    name = put("width,height,kind,kind_2\n1,2,a,b\n3,4,b,a\n")
    with pytest.raises(TargetError) as raised:
        read_table(name, target)
    assert str(raised.value) == sentence


def test_text_cannot_be_regressed(put):
    with pytest.raises(TargetError) as raised:
        read_table(put("a,y\n1,low\n2,high\n"), kind="regression")
    assert str(raised.value) == "t.csv: target 'y' holds text such as 'low', regression needs numbers"


@pytest.mark.parametrize("name", ["none.csv", "none.npz"])
def test_missing_file(put, name):
    put(GOOD)
    with pytest.raises(FileError) as raised:
        read_table(name)
    assert str(raised.value) == f"{name}: there is no such file"


def test_a_folder_is_not_a_file(put):
    put(GOOD)
    os.mkdir("folder.csv")
    with pytest.raises(FileError) as raised:
        read_table("folder.csv")
    assert str(raised.value) == "folder.csv: this is a folder, not a file"


def test_an_unreadable_file(put, monkeypatch):
    name = put(GOOD)

    def refuse(self):  # the superuser may read anything, so permissions cannot be tried for real everywhere
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(FileError) as raised:
        read_table(name)
    assert str(raised.value) == "t.csv: the file cannot be read (Permission denied)"


# ------------------------------------------------------------------------------------------------ bad input: the NPZ


def test_npz_is_read(put):
    put("")
    np.savez("t.npz", x=np.arange(6, dtype=np.int8).reshape(3, 2), y=np.array([[1], [0], [1]]))
    table = read_table("t.npz")
    assert table.x.dtype == np.float64
    assert table.x.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert (table.kind, table.feature_names) == ("regression", ("x[0]", "x[1]"))
    assert read_table("t.npz", kind="classification").y.tolist() == [1, 0, 1]
    np.savez_compressed("s.npz", x=np.ones((3, 2)), label=np.array(["b", "a", "b"]))
    assert read_table("s.npz", "label").class_names == ("a", "b")


X = np.ones((2, 3))
BAD_NPZ = [
    ("no-x", {"data": X, "y": [0, 1]}, TargetError, "t.npz: no array 'x', there is 'data', 'y'"),
    ("no-y", {"x": X, "z": [0, 1]}, TargetError, "t.npz: no array 'y', there is 'x', 'z'"),
    ("x-objects", {"x": np.array([[1, None]], dtype=object), "y": [0]}, FileError,
     "t.npz: x holds Python objects, which are never unpickled; save numbers"),
    ("y-objects", {"x": X, "y": np.array(["a", 1], dtype=object)}, FileError,
     "t.npz: y holds Python objects, which are never unpickled; save numbers"),
    ("x-1d", {"x": np.ones(2), "y": [0, 1]}, RowError, "t.npz: x must have shape (N, F), it has (2,)"),
    ("x-3d", {"x": np.ones((2, 8, 8)), "y": [0, 1]}, RowError,
     "t.npz: x must have shape (N, F), it has (2, 8, 8); reshape it to (2, 64)"),
    ("x-empty", {"x": np.ones((0, 3)), "y": []}, FileError, "t.npz: x is empty, it has shape (0, 3)"),
    ("x-text", {"x": np.array([["a"], ["b"]]), "y": [0, 1]}, CellError, "t.npz: x must hold numbers, it is <U1"),
    ("x-complex", {"x": X * 1j, "y": [0, 1]}, CellError, "t.npz: x must hold numbers, it is complex128"),
    ("x-nan", {"x": np.array([[1, 2], [3, np.nan]]), "y": [0, 1]}, CellError,
     "t.npz: x[1, 1] is nan, not a finite number up to 1e+300"),
    ("x-huge", {"x": np.array([[1, 1e301]]), "y": [0]}, CellError,
     "t.npz: x[0, 1] is 1e+301, not a finite number up to 1e+300"),
    ("y-inf", {"x": X, "y": [0, -np.inf]}, CellError, "t.npz: y[1] is -inf, not a finite number up to 1e+300"),
    ("y-2d", {"x": X, "y": np.eye(2)}, TargetError, "t.npz: y must have shape (N,), it has (2, 2)"),
    ("y-complex", {"x": X, "y": [1j, 2]}, TargetError, "t.npz: y must hold numbers or text, it is complex128"),
    ("lengths", {"x": X, "y": [0, 1, 2]}, TargetError, "t.npz: x has 2 rows and y has 3"),
    ("one-class", {"x": X, "y": [4, 4]}, TargetError,
     "t.npz: target 'y' has one class only ('4' in every row), nothing to learn"),
]  # fmt: skip


@pytest.mark.parametrize(("arrays", "error", "sentence"), [c[1:] for c in BAD_NPZ], ids=[c[0] for c in BAD_NPZ])
def test_bad_npz(put, arrays, error, sentence):
    put("")
    np.savez("t.npz", **arrays)
    with pytest.raises(error) as raised:
        read_table("t.npz")
    assert str(raised.value) == sentence


def _npy() -> bytes:
    import io

    file = io.BytesIO()
    np.save(file, np.ones(3))
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "t.npz: the file is empty"),
        (GOOD.encode(), "t.npz: this is not an NPZ file, or it is damaged"),
        (b"PK\x03\x04 and then nothing", "t.npz: this is not an NPZ file, or it is damaged"),
        (pickle.dumps({"x": 1}), "t.npz: this is not an NPZ file, or it is damaged"),
        (_npy(), "t.npz: this is not an NPZ file, or it is damaged"),
    ],
    ids=["empty", "text", "cut", "pickle", "npy"],
)
def test_not_an_npz(put, content, sentence):
    with pytest.raises(FileError) as raised:
        read_table(put(content, "t.npz"))
    assert str(raised.value) == sentence


def test_any_damage_to_an_npz_is_one_sentence_or_harmless(put):
    put("")
    np.savez_compressed("good.npz", x=np.arange(40.0).reshape(20, 2), y=np.arange(20) % 2)
    with open("good.npz", "rb") as file:
        good = file.read()
    rng = np.random.default_rng(0)
    sentences = []
    for _ in range(300):
        damaged = bytearray(good)
        if rng.integers(2):
            damaged = damaged[: rng.integers(len(good))]
        else:
            damaged[rng.integers(len(good))] ^= 1 << rng.integers(8)
        try:
            read_table(put(bytes(damaged), "t.npz"))
        except TableError as error:
            sentences.append(str(error))
    assert all(s.startswith("t.npz: ") and "\n" not in s for s in sentences)
    assert len(sentences) > 150  # every truncation, and most flipped bits (timestamps and the like do not matter)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_a_table_or_one_sentence(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    sentence = f"{path}: "
    try:
        table = read_table(path)
    except TableError as error:
        sentence = str(error)
    else:
        assert np.isfinite(table.x).all()
    assert sentence.startswith(f"{path}: ")


# -------------------------------------------------------------------------------------------- split, standardisation


def test_split_is_seeded_complete_and_disjoint():
    y = np.arange(100)
    train, val = train_validation_split(y, 0.2, seed=1)
    assert (len(train), len(val)) == (80, 20)
    assert sorted([*train, *val]) == list(range(100))
    again = train_validation_split(y, 0.2, seed=1)
    np.testing.assert_array_equal(again[0], train)
    np.testing.assert_array_equal(again[1], val)
    assert train_validation_split(y, 0.2, seed=2)[1].tolist() != val.tolist()


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.floats(0.05, 0.95), st.integers(0, 99))
def test_stratified_split_keeps_proportions(counts, fraction, seed):
    y = np.repeat(np.arange(len(counts)), counts)
    n, wanted = len(y), max(1, round(fraction * len(y)))
    if wanted == n or max(counts) == 1:
        return
    train, val = train_validation_split(y, fraction, seed=seed, stratify=True)
    assert sorted([*train, *val]) == list(range(n))
    for c, count in enumerate(counts):
        taken = int((y[val] == c).sum())
        assert taken <= count - 1  # every class is seen in training
        assert taken <= np.ceil(wanted / n * count)
        assert taken >= min(np.floor(wanted / n * count), count - 1)


def test_split_of_the_digits_is_balanced():
    y = load_digits().y
    train, val = train_validation_split(y, 0.2, seed=0, stratify=True)
    assert (len(train), len(val)) == (1438, 359)
    np.testing.assert_allclose(np.bincount(y[val]) / np.bincount(y), 0.2, atol=0.005)


@pytest.mark.parametrize(
    ("n", "fraction", "sentence"),
    [
        (10, 1.0, "the validation fraction must be at least 0 and less than 1, it is 1.0"),
        (10, -0.1, "the validation fraction must be at least 0 and less than 1, it is -0.1"),
        (10, float("nan"), "the validation fraction must be at least 0 and less than 1, it is nan"),
        (1, 0.5, "1 row(s) cannot be split into training and validation rows with a fraction of 0.5"),
    ],
    ids=["one", "negative", "nan", "one-row"],
)
def test_bad_split(n, fraction, sentence):
    with pytest.raises(errors.UsageError) as raised:
        train_validation_split(np.arange(n), fraction, seed=0)
    assert str(raised.value) == sentence


def test_no_validation_rows_when_none_are_asked_for():
    train, val = train_validation_split(np.arange(3), 0, seed=0)
    assert (len(train), len(val)) == (3, 0)


def test_classes_of_one_row_cannot_be_stratified():
    with pytest.raises(errors.UsageError, match="no class has two rows"):
        train_validation_split(np.arange(5), 0.2, seed=0, stratify=True)


def test_standardised_columns_have_mean_0_and_deviation_1():
    x = load_diabetes().x
    z = standardize(x, *moments(x))
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-13)
    np.testing.assert_allclose(z.std(axis=0), 1, rtol=1e-13)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3e250, 5e-320])
def test_a_constant_column_becomes_zero(value):
    x = np.full((1000, 1), value)
    mean, std = moments(x)
    assert std.tolist() == [1.0]
    assert np.abs(standardize(x, mean, std)).max() <= 1e-12 * abs(value)


@pytest.mark.parametrize("scale", [1e-200, 1e-8, 1.0, 1e150, 1e299])
def test_standardisation_does_not_depend_on_the_unit(scale):
    x = np.random.default_rng(0).normal(size=(50, 3))
    np.testing.assert_allclose(standardize(x * scale, *moments(x * scale)), standardize(x, *moments(x)), rtol=1e-11)


def test_standardisation_names_wrong_shapes():
    with pytest.raises(errors.UsageError, match=r"x has shape \(2, 3\), mean \(2,\), std \(2,\)"):
        standardize(np.ones((2, 3)), np.ones(2), np.ones(2))
    with pytest.raises(errors.UsageError, match=r"at least one row, it has \(0, 3\)"):
        moments(np.ones((0, 3)))


COLOURS = "size,colour,y\n1,red,0\n2,blue,1\n3,red,1\n4,blue,0\n"


def test_a_text_column_becomes_a_feature_for_each_value(put):
    table = read_table(put(COLOURS), "y")
    assert table.feature_names == ("size", "colour=blue", "colour=red")
    assert table.categories == {"colour": ("blue", "red")}
    assert table.x.tolist() == [[1, 0, 1], [2, 1, 0], [3, 0, 1], [4, 1, 0]]


def test_categories_are_read_as_they_were_in_training(put):
    table = read_table(put(COLOURS), "y")
    rows = [[7, 0, 1], [8, 1, 0]]
    assert read_features(put("colour,size\nred,7\nblue,8\n"), table.feature_names, table.categories).tolist() == rows
    assert read_features(put("7,red\n8,blue\n"), table.feature_names, table.categories).tolist() == rows
    with pytest.raises(CellError) as raised:
        read_features(put("size,colour\n7,red\n8,green\n"), table.feature_names, table.categories)
    assert str(raised.value) == (
        "t.csv: row 2 (line 3), column 'colour': 'green' is none of the values it had in training ('blue', 'red')"
    )
    with pytest.raises(CellError) as raised:
        read_features(put("size,colour\nbig,red\nsmall,red\n"), table.feature_names, table.categories)
    assert str(raised.value) == "t.csv: row 1 (line 2), column 'size': 'big' is not a number"


@pytest.mark.parametrize(
    ("content", "error", "sentence"),
    [
        (
            "name,y\nann,0\nbob,1\neve,1\n",
            CellError,
            (
                "t.csv: column 'name' holds text with 3 different values in 3 rows (such as 'ann'); a category has "
                "at most 20, each in two rows on average: take the column out of the file, or write it as numbers"
            ),
        ),
        ("c,y\nred,0\n,1\nred,1\n", CellError, ("t.csv: row 2 (line 3), column 'c': the cell is empty, "
         "a category belongs there")),
        ("c,c=red,y\nred,1,0\nred,2,1\n", FileError, "t.csv: 'c=red' is a column and a value of another, rename one"),
    ],
    ids=["names", "empty", "twice"],
)  # fmt: skip
def test_text_that_is_no_category(put, content, error, sentence):
    with pytest.raises(error) as raised:
        read_table(put(content), "y")
    assert str(raised.value) == sentence
