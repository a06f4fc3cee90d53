"""Which bytes are which letters: found from the bytes themselves, as late as they tell."""

import codecs
import importlib
import re

from rtrl.validate import require

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class Decoder:
    """Bytes to text, chunk by chunk. What cannot be decoded becomes U+FFFD, never an error.

    Without an encoding given: a byte order mark tells, or zeros in every second byte (UTF-16), or
    else it is UTF-8 until the first bytes that are not; if all before them was ASCII, the encoding
    is looked for then (`find_encoding`), as every old encoding agrees so far.
    """

    def __init__(self, encoding: str | None):
        if encoding is not None:
            try:
                codecs.lookup(encoding)
            except (LookupError, ValueError):
                require(False, "encoding", "an encoding that Python knows, as latin-1", encoding)
        self._given = encoding
        self._decoder: codecs.IncrementalDecoder | None = None
        self._open = False  # nothing but ASCII yet: still to be settled
        self.encoding = encoding or "utf-8"

    def __call__(self, data: bytes, final: bool) -> str:
        if self._decoder is None:
            if not data and not final:
                return ""
            self._settle(data)
        assert self._decoder is not None
        if self._open and not data.isascii():
            self._open = False
            strict = codecs.getincrementaldecoder("utf-8")()
            try:
                strict.decode(data, final)
            except UnicodeDecodeError as error:
                if error.start < len(data) - 3 or final:  # and no letter that was cut in two
                    self.encoding = find_encoding(data)
                    self._decoder = codecs.getincrementaldecoder(self.encoding)("replace")
        return self._decoder.decode(data, final)

    def _settle(self, data: bytes) -> None:
        if self._given is None:
            self.encoding = next((name for mark, name in MARKS if data.startswith(mark)), "")
            even, odd = data[0:4096:2].count(0), data[1:4096:2].count(0)
            if not self.encoding and len(data) >= 4 and 4 * max(even, odd) > len(data[:4096]):
                self.encoding = "utf-16-le" if odd > even else "utf-16-be"
            self._open = not self.encoding
            self.encoding = self.encoding or "utf-8"
        elif data.startswith(codecs.BOM_UTF8) and self.encoding.lower() in ("utf-8", "utf8"):
            self.encoding = "utf-8-sig"
        self._decoder = codecs.getincrementaldecoder(self.encoding)("replace")


def find_encoding(data: bytes) -> str:
    """The encoding of bytes that are not UTF-8: Western, unless a detector is sure of another.

    A few accented letters do not tell Western from Eastern European encodings, and detectors guess
    among them wildly. So charset-normalizer, if it is there, is asked only where whole words are
    beyond ASCII, as those of other scripts are (Cyrillic, Greek, Chinese, Japanese, Korean, ...).
    """
    beyond = sum(byte > 127 for byte in data)
    if 2 * sum(map(len, _WORDS.findall(data))) < beyond:
        return _western(data)
    try:
        library = importlib.import_module("charset_normalizer")
    except ImportError:
        return _western(data)
    best = library.from_bytes(data).best()
    if best is None or not set(best.alphabets) & SCRIPTS or best.percent_chaos > 10:
        return _western(data)
    return best.encoding


_WORDS = re.compile(rb"[\x80-\xff]{3,}")
SCRIPTS = {
    "Cyrillic", "Greek and Coptic", "Hebrew", "Arabic", "Thai", "Hangul Syllables", "Hiragana",
    "Katakana", "CJK Unified Ideographs",
}  # fmt: skip


def _western(data: bytes) -> str:
    try:
        data.decode("cp1252")
        return "cp1252"
    except UnicodeDecodeError:
        return "latin-1"
