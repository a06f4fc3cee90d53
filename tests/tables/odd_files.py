"""Small files as people have them, with what is right beside each: kinds of columns, numbers."""

import bz2
import gzip
import lzma
import math
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

ROWS = 40
TEMPS = [round(20 + 8 * math.sin(t / 3) + (t * 37 % 11) / 10, 2) for t in range(ROWS)]
LEVELS = [round(v * 1234.5 - 20000, 2) for v in TEMPS]  # negative ones among them
SALES = [int(1_000_000 + 31_250.7 * v) for v in TEMPS]
SKY = [("sun", "rain", "snow")[t * 7 % 3] for t in range(ROWS)]
OPEN = [t % 5 != 0 for t in range(ROWS)]
DAYS = [date(2023, 4, 5) + timedelta(t) for t in range(ROWS)]
HOURS = [datetime(2023, 4, 15, 6) + timedelta(hours=t) for t in range(ROWS)]
NAN = float("nan")


class Odd(NamedTuple):
    """A file, how it is asked for, and its right reading."""

    content: bytes
    kinds: str  # a letter for each column: see KINDS
    values: dict[str, Any]  # features by name
    options: dict[str, Any] = {}
    bad: tuple[int, ...] = ()  # lines left out
    target: Any = "temp"


KINDS = {
    "n": "number", "p": "percentage", "m": "money", "b": "boolean", "c": "class", "t": "time",
    "u": "counter", "k": "constant", "e": "empty", "x": "text",
}  # fmt: skip


def text(header: str, rows: list, end: str = "\n", encoding: str = "utf-8") -> bytes:
    lines = ([header] if header else []) + [str(row) for row in rows]
    return (end.join(lines) + end).encode(encoding)


def columns(*parts: Any, by: str = ",") -> list[str]:
    return [by.join(map(str, row)) for row in zip(*parts, strict=True)]


def comma(values: list[float], digits: int = 2) -> list[str]:
    return [f"{v:.{digits}f}".replace(".", ",") for v in values]


TEMP = {"temp": TEMPS}
WORDS = {f"sky={w}": [float(s == w) for s in SKY] for w in ("rain", "snow", "sun")}
HOLES = [NAN if t % 7 == 3 else v for t, v in enumerate(TEMPS)]
NUMBERS = range(1, ROWS + 1)
MONATE = {4: "April", 5: "Mai", 3: "M\u00e4rz"}


def holes(word: str) -> list[str]:
    return [word if v != v else str(v) for v in HOLES]


def thousands(values: list, mark: str) -> list[str]:
    return [f"{v:,}".replace(",", mark) for v in values]


def brackets(values: list[float]) -> list[str]:
    return [f"({-v:,.2f})" if v < 0 else f"{v:,.2f}" for v in values]


CSV = text("day,temp,sky", columns(DAYS, TEMPS, SKY))
QUOTED_SALES = [f'"{s}"' for s in thousands(SALES, ",")]
EU = [f"{v:,.2f}".translate(str.maketrans(",.", ".,")) for v in LEVELS]

ODD = {
    "a text column": Odd(text("temp,sky", columns(TEMPS, SKY)), "nc", TEMP | WORDS),
    "true and false": Odd(
        text("temp,open", columns(TEMPS, [str(o).lower() for o in OPEN])),
        "nb",
        TEMP | {"open": [float(o) for o in OPEN]},
    ),
    "yes and no": Odd(
        text("temp,open", columns(TEMPS, ["Yes" if o else "No" for o in OPEN])),
        "nb",
        TEMP | {"open": [float(o) for o in OPEN]},
    ),
    "0 and 1": Odd(
        text("temp,open", columns(TEMPS, [int(o) for o in OPEN])),
        "nn",
        TEMP | {"open": [float(o) for o in OPEN]},
    ),
    "April 15, 2023": Odd(
        text("day,temp", columns([f'"{d:%B} {d.day}, {d.year}"' for d in DAYS], TEMPS)), "tn", TEMP
    ),
    "15-Apr-2023": Odd(
        text("day,temp", columns([f"{d:%d-%b-%Y}" for d in DAYS], TEMPS)), "tn", TEMP
    ),
    "month first": Odd(
        text("day,temp", columns([f"{d:%m/%d/%Y}" for d in DAYS], TEMPS)), "tn", TEMP
    ),
    "day first": Odd(text("day,temp", columns([f"{d:%d/%m/%Y}" for d in DAYS], TEMPS)), "tn", TEMP),
    "day first, short": Odd(
        text("day;temp", columns([f"{d:%d.%m.%y}" for d in DAYS], comma(TEMPS), by=";")), "tn", TEMP
    ),
    "date and time apart": Odd(
        text(
            "day,at,temp",
            columns([f"{h:%d/%m/%Y}" for h in HOURS], [f"{h:%H:%M}" for h in HOURS], TEMPS),
        ),
        "ttn",
        TEMP,
    ),
    "a zone": Odd(
        text("when,temp", columns([f"{h:%Y-%m-%dT%H:%M}+02:00" for h in HOURS], TEMPS)), "tn", TEMP
    ),
    "seconds since 1970": Odd(
        text("timestamp,temp", columns([1_681_500_000 + 60 * t for t in range(ROWS)], TEMPS)),
        "tn",
        TEMP,
    ),
    "milliseconds since 1970": Odd(
        text("x,temp", columns([1_681_500_000_000 + 60_000 * t for t in range(ROWS)], TEMPS)),
        "tn",
        TEMP,
    ),
    "20230415": Odd(text("date,temp", columns([f"{d:%Y%m%d}" for d in DAYS], TEMPS)), "tn", TEMP),
    "quarters": Odd(
        text("q,temp", columns([f"{1990 + t // 4}Q{t % 4 + 1}" for t in range(ROWS)], TEMPS)),
        "tn",
        TEMP,
    ),
    "thousands in quotes": Odd(
        text("temp,sales", columns(TEMPS, QUOTED_SALES)), "nn", TEMP | {"sales": SALES}
    ),
    "thousands under 10 thousand": Odd(
        text("temp,sales", columns(TEMPS, [f'"{s // 1000:,}"' for s in SALES])),
        "nn",
        TEMP | {"sales": [s // 1000 for s in SALES]},
    ),
    "thousands with blanks": Odd(
        text("temp;sales", columns(comma(TEMPS), thousands(SALES, "\u202f"), by=";")),
        "nn",
        TEMP | {"sales": SALES},
    ),
    "thousands with dots": Odd(
        text("temp;level", columns(comma(TEMPS), EU, by=";")), "nn", TEMP | {"level": LEVELS}
    ),
    "Swiss thousands": Odd(
        text("temp,sales", columns(TEMPS, thousands(SALES, "'"))), "nn", TEMP | {"sales": SALES}
    ),
    "three decimals after a comma": Odd(
        text("temp;p", columns(comma(TEMPS), comma([v / 16 + 1 for v in TEMPS], 3), by=";")),
        "nn",
        TEMP | {"p": [round(v / 16 + 1, 3) for v in TEMPS]},
    ),
    "dollars": Odd(text("temp", [f"${v:.2f}" for v in TEMPS]), "m", TEMP),
    "euros": Odd(
        text("temp;n", columns([f"{v} €" for v in comma(TEMPS)], SALES, by=";")),
        "mn",
        TEMP | {"n": SALES},
    ),
    "percent": Odd(text("temp", [f"{v:.2f}%" for v in TEMPS]), "p", TEMP),
    "a unit": Odd(text("temp", [f"{v:.2f} C" for v in TEMPS]), "n", TEMP),
    "brackets for less than nothing": Odd(
        text("temp;level", columns(TEMPS, brackets(LEVELS), by=";")), "nn", TEMP | {"level": LEVELS}
    ),
    "minus behind": Odd(
        text("temp,level", columns(TEMPS, [f"{abs(v)}-" if v < 0 else v for v in LEVELS])),
        "nn",
        TEMP | {"level": LEVELS},
    ),
    "k and M": Odd(
        text("temp,n", columns(TEMPS, [("1.5M", "750K")[t % 2] for t in range(ROWS)])),
        "nn",
        TEMP | {"n": [(1.5e6, 7.5e5)[t % 2] for t in range(ROWS)]},
    ),
    "no header, a text": Odd(
        text("", columns(TEMPS, SKY)),
        "nc",
        {"column 0": TEMPS} | {k.replace("sky", "column 1"): v for k, v in WORDS.items()},
        target=0,
    ),
    "a separator ends every line": Odd(
        text("a;temp;", columns(LEVELS, TEMPS, [""] * ROWS, by=";")),
        "nne",
        TEMP | {"a": LEVELS},
        target=-1,
    ),
    "a separator ends every line but the first": Odd(
        text("a;temp", columns(LEVELS, TEMPS, [""] * ROWS, by=";")),
        "nne",
        TEMP | {"a": LEVELS},
        target=-1,
    ),
    "two of a name": Odd(text("a,a", columns(LEVELS, TEMPS)), "nn", {"a": TEMPS}, target=1),
    "latin-1": Odd(
        text("sky;température", columns(SKY, comma(TEMPS), by=";"), encoding="latin-1"),
        "cn",
        {"température": TEMPS} | WORDS,
        target="température",
    ),
    "cp1251": Odd(
        text(
            "погода;температура",
            columns(["солнце", "дождь"] * 20, comma(TEMPS), by=";"),
            encoding="cp1251",
        ),
        "cn",
        {"температура": TEMPS},
        {"encoding": "cp1251"},
        target=1,
    ),
    "utf-16": Odd(
        text("température", TEMPS, "\r\n", "utf-16"), "n", {"température": TEMPS}, target=0
    ),
    "utf-16 without a mark": Odd(text("temp", TEMPS, encoding="utf-16-le"), "n", TEMP),
    "old Macintosh": Odd(text("temp,sky", columns(TEMPS, SKY), "\r"), "nc", TEMP | WORDS),
    "gzip": Odd(gzip.compress(CSV), "tnc", TEMP | WORDS),
    "gzip of two parts": Odd(
        gzip.compress(CSV[:333]) + gzip.compress(CSV[333:]), "tnc", TEMP | WORDS
    ),
    "bzip2": Odd(bz2.compress(CSV), "tnc", TEMP | WORDS),
    "xz": Odd(lzma.compress(CSV), "tnc", TEMP | WORDS),
    "JSON lines": Odd(
        text(
            "",
            [
                f'{{"day": "{d}", "temp": {v}, "ok": {str(o).lower()}}}'
                for d, v, o in zip(DAYS, TEMPS, OPEN, strict=True)
            ],
        ),
        "tnb",
        TEMP,
    ),
    "a dot is missing": Odd(text("temp,a", columns(TEMPS, holes("."))), "nn", TEMP | {"a": HOLES}),
    "NaN and None": Odd(text("temp,a", columns(TEMPS, holes("None"))), "nn", TEMP | {"a": HOLES}),
    "-999": Odd(text("temp,a", columns(TEMPS, holes("-999"))), "nn", TEMP | {"a": HOLES}),
    "formula errors": Odd(
        text("temp,a", columns(TEMPS, holes("#DIV/0!"))), "nn", TEMP | {"a": HOLES}
    ),
    "row numbers": Odd(text("id,temp", columns(NUMBERS, TEMPS)), "un", TEMP),
    "row numbers without a name": Odd(text(",temp", columns(NUMBERS, TEMPS)), "un", TEMP),
    "a meter": Odd(
        text("meter,temp", columns([int(10 * t + v) for t, v in enumerate(TEMPS)], TEMPS)),
        "un",
        TEMP
        | {
            "meter": [
                NAN,
                *(
                    int(10 * t + 10 + b) - int(10 * t + a)
                    for t, (a, b) in enumerate(zip(TEMPS, TEMPS[1:], strict=False))
                ),
            ]
        },
    ),
    "constant and empty": Odd(
        text("k,e,temp", columns(["5"] * ROWS, [""] * ROWS, TEMPS)), "ken", TEMP
    ),
    "lines above the table": Odd(
        b"Station 5, Bonn\nmade by hand\n\n" + text("day,temp", columns(DAYS, TEMPS)), "tn", TEMP
    ),
    "sep=": Odd(
        b"sep=;\r\n" + text("sky;temp", columns(SKY, TEMPS, by=";"), "\r\n"), "cn", TEMP | WORDS
    ),
    "units below the names": Odd(
        text("day,temp", ["date,deg C", *columns(DAYS, TEMPS)]), "tn", TEMP, bad=(2,)
    ),
    "a total at the end": Odd(
        text("day,temp", [*columns(DAYS, TEMPS), "Total", "2 pages"]),
        "tn",
        TEMP,
        bad=(ROWS + 2, ROWS + 3),
    ),
    "a name with a comma and one with a line": Odd(
        text('"temp, out","wind\nspeed"', columns(TEMPS, LEVELS)),
        "nn",
        {"temp, out": TEMPS, "wind\nspeed": LEVELS},
        target=0,
    ),
    "names in single quotes": Odd(
        text("'temp','a'", columns(TEMPS, LEVELS)), "nn", TEMP | {"a": LEVELS}
    ),
    "years as names": Odd(
        text("land,1990,1991,1992", columns(SKY, TEMPS, LEVELS, SALES)),
        "cnnn",
        {"1990": TEMPS, "1991": LEVELS, "1992": SALES},
        target="1990",
    ),
    "names of groups above the names": Odd(
        text("", ["inside,,outside,", "temp,level,sales,sky", *columns(TEMPS, LEVELS, SALES, SKY)]),
        "nnnc",
        TEMP | {"level": LEVELS, "sales": SALES} | WORDS,
    ),
    "rows with names, as R writes them": Odd(
        text('"temp" "sky"', columns([f'"{n}"' for n in NUMBERS], TEMPS, SKY, by=" ")),
        "unc",
        TEMP | WORDS,
    ),
    "rows with names and commas": Odd(
        text('"temp","sky"', columns([f"r{n}" for n in NUMBERS], TEMPS, SKY)), "xnc", TEMP | WORDS
    ),
    "postcodes": Odd(
        text("zip,temp", columns([("01067", "10115")[t % 2] for t in range(ROWS)], TEMPS)),
        "cn",
        TEMP | {"zip=01067": [float(t % 2 == 0) for t in range(ROWS)]},
    ),
    "numbers with zeros in front": Odd(
        text("n,temp", columns([f"{s % 10000:04d}" for s in SALES], TEMPS)),
        "nn",
        TEMP | {"n": [s % 10000 for s in SALES]},
    ),
    "identifiers beyond the digits of a number": Odd(
        text("id,temp", columns([9 * 10**16 + s * 7919 for s in SALES], TEMPS)), "xn", TEMP
    ),
    "Namibia": Odd(
        text("land,temp", columns([("DE", "NA", "FR")[t % 3] for t in range(ROWS)], TEMPS)),
        "cn",
        TEMP | {"land=NA": [float(t % 3 == 1) for t in range(ROWS)]},
    ),
    "NA is missing": Odd(text("temp,a", columns(TEMPS, holes("NA"))), "nn", TEMP | {"a": HOLES}),
    "three dashes": Odd(text("temp,a", columns(TEMPS, holes("---"))), "nn", TEMP | {"a": HOLES}),
    "a backslash before a quote": Odd(
        text("note,temp", columns([rf'"5\" pipe, {n}"' for n in NUMBERS], TEMPS)), "xn", TEMP
    ),
    "spaces within quotes": Odd(
        text("temp , sky", columns([f'" {v} "' for v in TEMPS], [f"  {s} " for s in SKY])),
        "nc",
        TEMP | WORDS,
    ),
    "lines within quotes": Odd(
        text("temp;note", columns(TEMPS, [f'"a, b\nc, {n}\nd"' for n in NUMBERS], by=";")),
        "nx",
        TEMP,
    ),
    "lists": Odd(
        text("temp;of", columns(TEMPS, ["['1', '2']" if o else "['3']" for o in OPEN], by=";")),
        "nc",
        TEMP | {"of=['3']": [float(not o) for o in OPEN]},
    ),
    "ends of lines mixed": Odd(
        text(
            "day,temp", [f"{row}\r" if n % 2 else row for n, row in enumerate(columns(DAYS, TEMPS))]
        ),
        "tn",
        TEMP,
    ),
    "zeros at the end": Odd(
        text("day,temp", columns(DAYS, TEMPS)) + b"\0" * 99, "tn", TEMP, bad=(ROWS + 2,)
    ),
    "a zero within": Odd(
        text("temp,a", [*columns(TEMPS, LEVELS), "2\0,1"]),
        "nn",
        TEMP | {"a": LEVELS},
        bad=(ROWS + 2,),
    ),
    "the header again, a comment, rows cut short": Odd(
        text("day,temp", [*columns(DAYS, TEMPS), "day,temp", "# restarted", "2023-06-01", "1,2,3"]),
        "tn",
        TEMP,
        bad=(ROWS + 2, ROWS + 3, ROWS + 4, ROWS + 5),
    ),
    "a mean at the end": Odd(
        text("day,temp", [*columns(DAYS, TEMPS), "", "Mean,24.1", "Source: by hand"]),
        "tn",
        TEMP,
        bad=(ROWS + 3, ROWS + 4),
    ),
    "AM and PM": Odd(
        text("when,temp", columns([f"{h:%m/%d/%Y %I:%M %p}" for h in HOURS], TEMPS)), "tn", TEMP
    ),
    "5. M\u00e4rz 2023": Odd(
        text(
            "tag;temp",
            columns([f"{d.day}. {MONATE[d.month]} {d.year}" for d in DAYS], comma(TEMPS), by=";"),
        ),
        "tn",
        TEMP,
    ),
    "days of a spreadsheet": Odd(
        text("date,temp", columns([45021 + t for t in range(ROWS)], TEMPS)), "tn", TEMP
    ),
    "hours of a spreadsheet": Odd(
        text(
            "date;temp",
            columns(comma([45031.25 + t / 24 for t in range(ROWS)], 5), comma(TEMPS), by=";"),
        ),
        "tn",
        TEMP,
    ),
    "weeks": Odd(
        text("week,temp", columns([f"2023-W{t + 1:02d}" for t in range(ROWS)], TEMPS)), "tn", TEMP
    ),
    "TRUE and FALSE": Odd(
        text('"temp","open"', columns(TEMPS, [str(o).upper() for o in OPEN])),
        "nb",
        TEMP | {"open": [float(o) for o in OPEN]},
    ),
    "hexadecimal": Odd(
        text("at,temp", columns([f"0x{s % 65536:04X}" for s in SALES], TEMPS)), "xn", TEMP
    ),
    "JSON over several lines": Odd(
        text(
            "",
            [
                "[",
                *(
                    f'  {{\n    "temp": {v},\n    "sky": "{s}"\n  }},'
                    for v, s in zip(TEMPS, SKY, strict=True)
                ),
            ],
        )[:-2]
        + b"\n]\n",
        "nc",
        TEMP | WORDS,
    ),
    "one decimal comma a line": Odd(text("temp", comma(TEMPS)), "n", TEMP),
    "tabs": Odd(text("temp\tsky", columns(TEMPS, SKY, by="\t")), "nc", TEMP | WORDS),
    "spaces": Odd(
        text("temp   level", columns(TEMPS, LEVELS, by="   ")), "nn", TEMP | {"level": LEVELS}
    ),
    "very small and large": Odd(
        text("temp,a", columns([f"{v}e-14" for v in TEMPS], [f"{v}E9" for v in TEMPS])),
        "nn",
        {"temp": [float(f"{v}e-14") for v in TEMPS], "a": [float(f"{v}E9") for v in TEMPS]},
    ),
}
