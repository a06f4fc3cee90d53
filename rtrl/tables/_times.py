"""Dates and times as people write them, and which way a whole column does.

Times become seconds since 1970-01-01 UTC; where no zone is written it is taken for UTC, so that
differences are right but for the hours in which clocks are put forward or back.
"""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

MONTHS = {
    name: i
    for i, names in enumerate(
        "jan january januar jän jänner janv janvier ene enero|"
        "feb february februar févr fév février febrero|mar march mär märz mrz mars marzo|"
        "apr april avr avril abr abril|may mai mayo|jun june juni juin junio|"
        "jul july juli juil juillet julio|aug august août aoû ago agosto|"
        "sep sept september septembre septiembre|oct october okt oktober octobre octubre|"
        "nov november novembre noviembre|"
        "dec december dez dezember déc décembre dic diciembre".split("|"), 1
    )
    for name in names.split()
}  # fmt: skip
ZONES = {
    "Z": 0, "UTC": 0, "GMT": 0, "CET": 1, "CEST": 2, "EET": 2, "EEST": 3, "BST": 1, "EST": -5,
    "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7, "JST": 9,
}  # fmt: skip
EPOCHS = {"epoch-s": 1.0, "epoch-ms": 1e3, "epoch-us": 1e6, "epoch-ns": 1e9}

#: The words for the ways of writing a time, as `--as COLUMN=WAY` takes them.
WAYS = ("iso", "day-first", "month-first", "named", "compact", "month", "clock", "year", *EPOCHS,
        "excel")  # fmt: skip

_NAMES = "|".join(sorted(MONTHS, key=len, reverse=True))
_CLOCK = (
    r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(:(?P<second>\d{2}([.,]\d{1,9})?))?\s*(?P<half>[AaPp]\.?[Mm]\.?)?"
    r"\s*(?P<zone>Z|[A-Z]{3,4}|(UTC|GMT)?[+-]\d{2}:?\d{2})?(\s*\([^)]*\))?"
)
_ZONED = re.compile(r"(UTC|GMT)?([+-])(\d{2}):?(\d{2})")
_DATES = {
    "ymd": r"(?P<year>\d{4})[-/. ](?P<month>\d{1,2})[-/. ](?P<day>\d{1,2})",
    "day-first": r"(?P<day>\d{1,2})(?P<s>[-/. ])(?P<month>\d{1,2})(?P=s)(?P<year>\d{4}|\d{2})",
    "month-first": r"(?P<month>\d{1,2})(?P<s>[-/. ])(?P<day>\d{1,2})(?P=s)(?P<year>\d{4}|\d{2})",
    "named": r"((Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,?\s+)?("
    rf"(?P<day>\d{{1,2}})(st|nd|rd|th)?[-\s./]*(?P<name>{_NAMES})[-\s./]*,?\s*(?P<year>\d{{4}}|\d{{2}})|"
    rf"(?P<name2>{_NAMES})[-\s./]*(?P<day2>\d{{1,2}})(st|nd|rd|th)?,?[-\s/]+(?P<year2>\d{{4}})|"
    rf"(?P<name3>{_NAMES})\.?\s+(?P<day3>\d{{1,2}})\s+(?P<clock3>[\d:]+)(\s+[A-Z]{{3,4}})?\s+(?P<year3>\d{{4}}))",
    "compact": r"(?P<year>(19|20)\d{2})(?P<month>\d{2})(?P<day>\d{2})",
}
_WHOLE = {
    way: re.compile(rf"{date}(,?[T\s]\s*{_CLOCK})?", re.ASCII | re.IGNORECASE)
    for way, date in _DATES.items()
}
_MONTH = re.compile(
    rf"(?P<year>\d{{4}})([-/. ]?M?(?P<month>0[1-9]|1[0-2])|[-/. ]?Q(?P<quarter>[1-4]))"
    rf"|Q(?P<quarter2>[1-4])[-/. ]?(?P<year2>\d{{4}})"
    rf"|(?P<name>{_NAMES})[-/. ]*(?P<year3>\d{{4}}|\d{{2}})"
    r"|(?P<month4>0?[1-9]|1[0-2])/(?P<year4>\d{4})",
    re.ASCII | re.IGNORECASE,
)
_TIME = re.compile(_CLOCK, re.ASCII)
_YEAR = re.compile(r"(1[5-9]|20|21)\d\d", re.ASCII)
_NUMBER = re.compile(r"\d+\.?\d*", re.ASCII)
_MONTH_NUMBER = re.compile(r"(19|20)\d\d\.?(0[1-9]|1[0-2])", re.ASCII)
_DAY = timedelta(days=1)
_ZERO = datetime(1970, 1, 1)


def reader(way: str) -> Callable[[str], float | None]:
    """What reads a field written in this way as seconds: None if it is not written so."""
    if way in EPOCHS:
        return lambda field: _epoch(field, EPOCHS[way])
    plain = {"iso": _iso, "clock": _clock, "month": _month, "year": _year, "excel": _excel}
    if way in plain:
        return plain[way]
    return lambda field: _date(_WHOLE[way], field)


def _iso(field: str) -> float | None:
    if field[:4].isdigit() and field[4:5] in ("-", "/", ".", " "):
        try:
            moment = datetime.fromisoformat(field)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            return _date(_WHOLE["ymd"], field)
    return None


def _date(pattern: re.Pattern[str], field: str) -> float | None:
    found = pattern.fullmatch(field)
    if found is None:
        return None
    parts = found.groupdict()

    def part(name: str) -> str:
        return parts.get(name) or parts.get(name + "2") or parts.get(name + "3") or ""

    year, name = int(part("year")), part("name").lower()
    if len(part("year")) == 2:
        year += 2000 if year < 69 else 1900
    month = MONTHS[name] if name else int(part("month"))
    try:
        days = (datetime(year, month, int(part("day"))) - _ZERO) // _DAY
    except (ValueError, OverflowError):
        return None
    if parts.get("clock3"):
        seconds = _clock(parts["clock3"])
    else:
        seconds = _seconds(parts) if parts["hour"] else 0.0
    return None if seconds is None else days * 86400.0 + seconds


def _seconds(parts: dict[str, str | None]) -> float | None:
    hour, minute = int(parts["hour"] or 0), int(parts["minute"] or 0)
    second = float((parts["second"] or "0").replace(",", "."))
    if parts["half"]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if parts["half"][0] in "pP" else 0)
    if hour > 24 or minute > 59 or second >= 61:
        return None
    zone = parts["zone"]
    offset = 0.0
    if zone:
        if zone.upper() in ZONES:
            offset = ZONES[zone.upper()] * 3600.0
        elif signed := _ZONED.fullmatch(zone):
            offset = int(signed[3]) * 3600.0 + int(signed[4]) * 60.0
            offset = -offset if signed[2] == "-" else offset
        else:
            return None
    return hour * 3600.0 + minute * 60.0 + second - offset


def _clock(field: str) -> float | None:
    found = _TIME.fullmatch(field)
    return None if found is None else _seconds(found.groupdict())


def _month(field: str) -> float | None:
    found = _MONTH.fullmatch(field)
    if found is None:
        return None
    parts = found.groupdict()
    text = parts["year"] or parts["year2"] or parts["year3"] or parts["year4"] or ""
    year = int(text)
    if len(text) == 2:
        year += 2000 if year < 69 else 1900
    quarter = parts["quarter"] or parts["quarter2"]
    month = 3 * int(quarter) - 2 if quarter else int(parts["month"] or parts["month4"] or 0)
    month = month or MONTHS[(parts["name"] or "").lower()]
    return ((datetime(year, month, 1) - _ZERO) // _DAY) * 86400.0 if year else None


def _year(field: str) -> float | None:
    if not _YEAR.fullmatch(field):
        return None
    return ((datetime(int(field), 1, 1) - _ZERO) // _DAY) * 86400.0


def _epoch(field: str, per_second: float) -> float | None:
    digits = field.replace(".", "", 1)
    if not (digits.isascii() and digits.isdigit()) or len(field) > 22:
        return None
    return float(field) / per_second


def _excel(field: str) -> float | None:
    """Days since 1899-12-30, as spreadsheets keep times."""
    days = field.replace(",", ".", 1)
    plain = days.replace(".", "", 1)
    if not (plain.isascii() and plain.isdigit()) or len(days) > 22:
        return None
    return round((float(days) - 25569) * 86400, 3)


def choose(fields: Sequence[str], least: float) -> tuple[str, float, str] | None:
    """The way in which the dates of a column are written, its share, and what was ambiguous.

    Only dates that look like nothing else: numbers that may be times are for `choose_numeric`.
    """
    best: dict[str, float] = {}
    worded = [f for f in fields if not _NUMBER.fullmatch(f)]
    for way in ("iso", "named", "month", "clock"):
        read = reader(way)
        best[way] = sum(read(f) is not None for f in worded) / len(fields)
    day, month = ([reader(w)(f) for f in fields] for w in ("day-first", "month-first"))
    for way, times in (("day-first", day), ("month-first", month)):
        best[way] = sum(t is not None for t in times) / len(fields)
    way = max(best, key=lambda w: best[w])
    if best[way] < least or best[way] == 0:
        return None
    if way in ("day-first", "month-first") and best["day-first"] == best["month-first"]:
        way, sure = _order(fields, day, month)
        note = "" if sure else f"{fields[0]}: taken as {way.replace('-', ' ')}"
        return way, best[way], note
    return way, best[way], ""


def _order(
    fields: Sequence[str], day: list[float | None], month: list[float | None]
) -> tuple[str, bool]:
    """Day or month first where every date could be both: the one in which time goes on evenly."""
    if len(set(day)) > 2:
        falls = [sum(b < a for a, b in pairwise(t for t in times if t is not None))
                 for times in (day, month)]  # fmt: skip
        if falls[0] != falls[1]:
            return ("day-first", "month-first")[falls[1] < falls[0]], True
        steps = [len({b - a for a, b in pairwise(t for t in times if t is not None)})
                 for times in (day, month)]  # fmt: skip
        if steps[0] != steps[1]:
            return ("day-first", "month-first")[steps[1] < steps[0]], True
    return ("month-first" if "/" in fields[0] else "day-first"), False


def choose_numeric(name: str, values: Sequence[float], fields: Sequence[str]) -> str | None:
    """Whether a column of numbers holds times: since 1970, dates as 20230415, months, years."""
    words = set(re.split(r"[^a-z]+", name.lower()))
    said = bool(words & {"time", "timestamp", "date", "datetime", "ts", "epoch", "unix", "when",
                         "unixtime", "day", "t", "month"})  # fmt: skip
    rising = all(b >= a for a, b in pairwise(values))
    if not values or not (said or (rising and len(values) >= 20)):
        return "year" if words == {"year"} and rising and all(map(_year, fields)) else None
    if all(f.isdigit() and len(f) == 8 and reader("compact")(f) is not None for f in fields):
        return "compact"
    sure = len(fields) >= 20 or bool(words & {"month", "date"})
    if sure and all(map(_MONTH_NUMBER.fullmatch, fields)):
        return "month"
    if words & {"date", "datetime"} and all(25e3 <= v < 75e3 for v in values):
        return "excel"  # 1968 to 2105; a time of 30,000 may be seconds
    for way, per_second in EPOCHS.items():
        if all(3e8 <= v / per_second < 4.2e9 for v in values):  # 1979 to 2103
            return way
    return None
