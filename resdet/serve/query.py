"""Query parameters of prediction requests."""

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.datastructures import QueryParams

from resdet.classification.model import TOP
from resdet.errors import hint
from resdet.serve.formats import FORMATS
from resdet.serve.limits import Refused
from resdet.serve.models import Loaded

PARAMETERS = ("model", "score", "top", "format")
MOST_CLASSES = 100_000


@dataclass(frozen=True)
class Query:
    """The parameters of a request; None if not given."""

    score: float | None = None
    top: int | None = None
    format: str = "json"

    def check(self, name: str, loaded: Loaded) -> "Query":
        """Returns the query with the model's default `top`; refuses parameters that the model does not support."""
        if self.score is not None and "score" not in loaded.options:
            raise Refused(422, f"{name} has no score threshold: omit score.")
        if self.top is not None and "top" not in loaded.options:
            raise Refused(422, f"{name} predicts any number of boxes: use score, and omit top.")
        if FORMATS[self.format].boxes and "draw" not in loaded.options:
            raise Refused(422, f"{name} predicts no boxes: use format=json or format=csv.")
        top = TOP if self.top is None and "top" in loaded.options else self.top
        return Query(self.score, top, self.format)


def read_query(query: QueryParams) -> Query:
    values: Mapping[str, str] = dict(query)
    for key, _ in query.multi_items():
        if key not in PARAMETERS:
            raise Refused(422, f"There is no parameter {key!r}: {hint(key, PARAMETERS, 'see /docs.')}")
        if len(query.getlist(key)) > 1:
            raise Refused(422, f"{key} is given more than once: give it once.")
    form = values.get("format", "json")
    if form not in FORMATS:
        raise Refused(422, f"format is {form!r}: give one of {', '.join(FORMATS)}.")
    return Query(read_score(values.get("score")), read_top(values.get("top")), form)


def read_score(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        score = float(text)
    except ValueError:
        score = -1.0
    if not 0 <= score <= 1:
        raise Refused(422, f"score is {text!r}: give a number from 0 to 1.")
    return score


def read_top(text: str | None) -> int | None:
    if text is None:
        return None
    top = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(MOST_CLASSES)) else 0
    if not 0 < top <= MOST_CLASSES:
        raise Refused(422, f"top is {text!r}: give a number of classes from 1 to {MOST_CLASSES}.")
    return top
