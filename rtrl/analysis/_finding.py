"""One thing that is wrong with a learner, or worth knowing, in words."""

from typing import NamedTuple


class Finding(NamedTuple):
    """Something that is wrong, or worth knowing.

    Attributes:
        kind: in a few words, such as ``"rate too high"``.
        where: the layer it is about, ``""`` for the whole learner.
        says: what was found, with its figures.
        advice: what to try.
        problem: whether something is wrong; otherwise it is worth knowing.
    """

    kind: str
    where: str
    says: str
    advice: str
    problem: bool = True

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        return f"{self.kind}{place}: {self.says} {self.advice}"
