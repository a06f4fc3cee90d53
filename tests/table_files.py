"""Generated files of rows, with the truth beside them."""

from typing import NamedTuple

from hypothesis import strategies as st

NAN = float("nan")


class File(NamedTuple):
    """A generated file: its text, and which of its rows are good."""

    text: str
    columns: int
    good: list[tuple[int, list[float]]]  # line, numbers
    bad: list[int]  # lines
    options: dict


GAPS = st.sampled_from(["", "NA", "nan", "null", "?", "-"])


WORDS = st.text("ab,;|\t\"' \n#1", max_size=6)


@st.composite
def files(draw):
    """Rows of numbers, some malformed, in one of many layouts, with the truth beside them."""
    separator = draw(st.sampled_from([",", ";", "\t", "|", " "]))
    comma = separator == ";" and draw(st.booleans())
    end = draw(st.sampled_from(["\n", "\r\n"]))
    columns = draw(st.integers(2, 5))
    notes = separator != " " and draw(st.booleans())  # a last column of quoted text
    has_header = notes or draw(st.booleans())
    quote = st.sampled_from(["", "", "", '"'])

    parts, good, bad = [draw(st.sampled_from(["", "\ufeff"]))], [], []
    line = 1

    def add(text):
        nonlocal line
        parts.append(text)
        line += text.count("\n")

    def cell(value):
        text = f"{value:.6g}" if not isinstance(value, str) else value
        text = text.replace(".", ",") if comma else text
        mark = '"' if separator == " " and not text else draw(quote)
        return f"{mark}{text}{mark}"

    def numbers():
        value = st.one_of(
            st.integers(-99, 99), st.floats(-1e9, 1e9).map(lambda v: float(f"{v:.6g}"))
        )
        return [draw(value) for _ in range(columns)]

    def note():
        words = draw(WORDS).replace("\n", " ") if kind == "after quote" else draw(WORDS)
        return ['"' + words.replace('"', '""') + '"'] if notes else []

    def spread(cells):
        return separator.join(cells) + end

    if has_header:
        names = [f"n{i}" for i in range(columns)] + ["note"] * notes
        add(spread(names))
    for index in range(draw(st.integers(1, 12))):
        if draw(st.integers(0, 5)) == 0:
            add(draw(st.sampled_from(["", "  "])) + end)
        values = numbers()
        cells = [cell(v) for v in values]
        first = index == 0 and not has_header  # tells how many columns there are
        kind = "good" if first else draw(st.sampled_from(["good"] * 3 + KINDS))
        if kind == "open quote" and notes:
            kind = "text"  # a quote in a note might close it: that file has two readings
        if kind == "short" and separator == " " and index == 0:
            kind = "long"  # a single field could be right: names may hold spaces
        place = draw(st.integers(0, columns - 1))
        if kind == "gap":
            values[place], cells[place] = NAN, cell(draw(GAPS))
        elif kind == "text":
            cells[place] = cell(
                draw(st.sampled_from(["x", "1.2.3", "1e", "0x1", "--5", "inf", "#"]))
            )
        elif kind == "after quote":
            cells[place] = '"1"2'
        elif kind == "open quote":
            cells[place] = '"1'
        at, cells = line, cells + note()
        if kind == "short":
            cells = cells[: draw(st.integers(1, len(cells) - 1))]
        elif kind == "long":
            cells += ["1"] * draw(st.integers(1, 3))
        if kind in ("good", "gap"):
            good.append((at, values))
        else:
            bad.append(at)
        add(spread(cells))
    kinds = dict.fromkeys(range(columns), "number")
    options = {"header": has_header, "features": range(columns), "kinds": kinds}
    return File("".join(parts), columns, good, bad, options)


KINDS = ["gap", "text", "short", "long", "after quote", "open quote"]
