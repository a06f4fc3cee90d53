"""Who reads files as people have them right: this project, pandas, polars, duckdb, clevercsv.

The files are those of `tests/tables/odd_files.py`, each with its right reading beside it. A library
is asked as its manual says for a file that is not known: pandas with ``sep=None``, polars and
duckdb with their own sniffers, clevercsv for the dialect with pandas behind it. A file counts as
right if every number that is right is in some column of what comes out, in order, as a number
(text, classes and times are not asked of the others). Then the encodings (charset-normalizer,
chardet) and the dates (dateutil) by themselves, and the rows a second of reading 100,000 rows of
three numbers row by row.

    python bench/tables.py --output bench/results/tables.json

It needs pandas, polars, duckdb, clevercsv, chardet, charset-normalizer and dateutil; what is not
installed is left out.
"""

import argparse
import csv
import importlib
import json
import math
import sys
import tempfile
import time
import warnings
from datetime import date
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "tables"))
from odd_files import DAYS, ODD  # type: ignore # noqa: E402

from rtrl import tables  # noqa: E402

warnings.simplefilter("ignore")


def ours(path: Path, odd) -> list:
    table = tables.read(path, odd.target, hold=False, calendar=False)
    return list(np.array([row.x for row in table]).T)


def with_pandas(path: Path, odd) -> list:
    pandas = importlib.import_module("pandas")
    frame = pandas.read_csv(path, sep=None, engine="python", compression=_packing(path))
    return [frame[c].to_numpy(float) for c in frame if frame[c].dtype.kind in "ifb"]


def with_clevercsv(path: Path, odd) -> list:
    clevercsv = importlib.import_module("clevercsv")
    frame = clevercsv.read_dataframe(str(path))
    return [frame[c].to_numpy(float) for c in frame if frame[c].dtype.kind in "ifb"]


def with_polars(path: Path, odd) -> list:
    polars = importlib.import_module("polars")
    frame = polars.read_csv(path, infer_schema_length=None, try_parse_dates=True)
    numeric = [c for c, t in frame.schema.items() if t.is_numeric() or t == polars.Boolean]
    return [frame[c].cast(polars.Float64).to_numpy() for c in numeric]


def with_duckdb(path: Path, odd) -> list:
    duckdb = importlib.import_module("duckdb")
    packing = {"gzip": ", compression='gzip'", "zip": ""}.get(_packing(path) or "", "")
    found = duckdb.sql(f"select * from read_csv('{path}'{packing})").fetchnumpy()
    columns = [np.ma.filled(np.ma.asarray(c).astype(float), np.nan)
               for c in found.values() if np.asarray(c).dtype.kind in "ifb"]  # fmt: skip
    return columns


def _packing(path: Path) -> str | None:
    head = path.read_bytes()[:4]
    magic = {b"\x1f\x8b": "gzip", b"BZ": "bz2", b"\xfd7": "xz"}
    return magic.get(head[:2])


READERS = {
    "rtrl.tables": ours, "duckdb": with_duckdb, "pandas": with_pandas, "clevercsv": with_clevercsv,
    "polars": with_polars,
}  # fmt: skip


def is_right(odd, columns: list) -> bool:
    """Whether every sequence of numbers that is right is there; a class is asked of nobody."""
    for name, expected in odd.values.items():
        plain = "=" not in name and not name.startswith("meter")
        if plain and not any(
            len(c) == len(expected) and np.allclose(c, expected, rtol=1e-12, equal_nan=True)
            for c in columns
        ):
            return False
    return True


def read_all(folder: Path) -> list[dict]:
    rows = []
    for name, odd in ODD.items():
        path = folder / "odd.csv"
        path.write_bytes(odd.content)
        row = {"file": name}
        for reader, read in READERS.items():
            try:
                row[reader] = is_right(odd, read(path, odd))
            except ImportError:
                row[reader] = None
            except Exception as error:
                row[reader], row[reader + " says"] = False, str(error).splitlines()[0][:80]
        rows.append(row)
    return rows


TEXTS = {
    "cp1252": "température;été;Übergröße;año",
    "cp1250": "teplota;průměr;největší;łódź",
    "cp1251": "температура;влажность;давление;ветер",
    "shift_jis": "温度;湿度;気圧;風速",
    "gb18030": "温度;湿度;气压;风速",
    "euc_kr": "온도;습도;기압;풍속",
    "cp1253": "θερμοκρασία;υγρασία;πίεση;άνεμος",
}


def encodings() -> list[dict]:
    """Headers in old encodings above rows of numbers: is the text right?"""
    from rtrl.tables._encoding import find_encoding

    body = "".join(f"{t},5;{t};7;8\n" for t in range(100))
    rows = []
    for encoding, header in TEXTS.items():
        data = (header + "\n" + body).encode(encoding)
        row = {"encoding": encoding, "rtrl.tables": header in data.decode(find_encoding(data))}
        for name, call in (("charset_normalizer", "detect"), ("chardet", "detect")):
            try:
                found = getattr(importlib.import_module(name), call)(data)["encoding"]
                row[name] = found is not None and header in data.decode(found)
            except ImportError:
                row[name] = None
            except (LookupError, UnicodeDecodeError):
                row[name] = False
        rows.append(row)
    return rows


EPOCH = date(1970, 1, 1)
FORMS = [
    "%Y-%m-%d",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d.%m.%y",
    "%B %d, %Y",
    "%d-%b-%Y",
    "%Y%m%d",
    "%Y/%m/%d",
]


def dates() -> list[dict]:
    """Columns of dates: all of them right?"""
    from rtrl.tables import _times

    right = [(d - EPOCH).days * 86400.0 for d in DAYS]
    rows = []
    for form in FORMS:
        fields = [d.strftime(form) for d in DAYS]
        found = _times.choose(fields, 0.9)
        way = found[0] if found else "compact"
        row = {"form": form, "rtrl.tables": list(map(_times.reader(way), fields)) == right}
        try:
            parse = importlib.import_module("dateutil.parser").parse
            days = [(parse(field).date() - EPOCH).days for field in fields]
            row["dateutil"] = [86400.0 * day for day in days] == right
        except ImportError:
            row["dateutil"] = None
        rows.append(row)
    return rows


def speed(folder: Path, repeats: int = 5) -> dict[str, float]:
    """Rows a second of processor time, row by row, each as numbers."""
    rng = np.random.default_rng(0)
    values = np.cumsum(rng.normal(size=(100_000, 3)), 0)
    path = folder / "rows.csv"
    np.savetxt(path, values, "%.4f", ",", header="speed,load,temp", comments="")

    def by_csv() -> int:
        with open(path, newline="") as file:
            rows = csv.reader(file)
            next(rows)
            return sum(1 for row in rows if all(math.isfinite(v) for v in map(float, row)))

    def by_us() -> int:
        return sum(1 for _ in tables.read(path, "speed"))

    found = {}
    for name, call in (("rtrl.tables", by_us), ("csv.reader and float", by_csv)):
        times = []
        for _ in range(repeats):
            began = time.process_time()
            assert call() == 100_000
            times.append(time.process_time() - began)
        found[name] = round(100_000 / min(times))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = read_all(Path(folder))
        pace = speed(Path(folder))
    found = {"files": files, "encodings": encodings(), "dates": dates(), "rows_per_second": pace}
    right = {r: sum(row[r] is True for row in files) for r in READERS}
    print(f"files read right, of {len(files)}: {right}")
    for what in ("encodings", "dates"):
        names = [n for n in found[what][0] if n not in ("encoding", "form")]
        right_of = {n: sum(row[n] is True for row in found[what]) for n in names}
        print(f"{what}, of {len(found[what])}: {right_of}")
    print("rows a second:", found["rows_per_second"])
    if given.output:
        given.output.write_text(json.dumps({"right": right, **found}, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
