"""What the models find wrong, in words of our own: what to write instead, with the whole range.

Role: one error of pydantic's and the model it is of, to a sentence; shared by the settings and the API's bodies.
Rules: a number's words have both ends of its range, whatever was wrong with it; the value isn't repeated here.
Must not know: where a value comes from, what it is for.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails


class Forms(NamedTuple):
    """What the same things are called where the value was written."""

    text: str
    table: str


TOML = Forms("text in quotes", "a table")
JSON = Forms("text", "an object")

_NAME = "letters, digits, _ or -"
#: Patterns of the models, and what they want.
_PATTERNS = {
    r"^[A-Za-z0-9_-]{1,64}$": f"1 to 64 {_NAME}",
    r"\A[A-Za-z0-9_-]{1,64}\z": f"1 to 64 {_NAME}",
    r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,127}\z": "1 to 128 letters, digits, ., _ or -, the first a letter or a digit",
}
_NUMBERS = frozenset(
    {"int_type", "int_from_float", "float_type", "finite_number", "greater_than_equal", "less_than_equal"}
)
_OTHERS: Mapping[str, Callable[[Mapping[str, Any], Forms], str]] = {
    "model_type": lambda _, forms: f"must be {forms.table}",
    "dict_type": lambda _, forms: f"must be {forms.table}",
    "string_type": lambda _, forms: f"must be {forms.text}",
    "bool_type": lambda _context, _forms: "must be true or false",
    "list_type": lambda _context, _forms: "must be a list",
    "tuple_type": lambda _context, _forms: "must be a list",
    "literal_error": lambda context, _: f"must be one of {context['expected']}",
    "string_too_long": lambda context, _: f"must have at most {context['max_length']} characters",
    "string_too_short": lambda _context, _forms: "must not be empty",
    "too_long": lambda context, _: f"must have at most {context['max_length']} entries",
    "string_pattern_mismatch": lambda context, _: f"must be {_PATTERNS.get(context['pattern'], context['pattern'])}",
}


def words(error: ErrorDetails, model: type[BaseModel], forms: Forms) -> str | None:
    """What is wrong, or None if the error's own message is ours already."""
    if error["type"] in _NUMBERS:
        return _number(_field(model, error["loc"]))
    said = _OTHERS.get(error["type"])
    return said(error.get("ctx", {}), forms) if said else None


def meant(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: which one was perhaps meant; empty if none is like it."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _number(field: FieldInfo | None) -> str:
    parts = list(_parts(field)) if field is not None else []
    noun = "a whole number" if int in parts else "a number"
    least = next((part.ge for part in parts if hasattr(part, "ge")), None)
    most = next((part.le for part in parts if hasattr(part, "le")), None)
    if least is None or most is None:
        return f"must be {noun}"
    return f"must be {noun} from {_shown(least)} to {_shown(most)}"


def _shown(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else f"{number:g}"


def _field(model: object, location: tuple[int | str, ...]) -> FieldInfo | None:
    """The field at a place, through inner models; an index of a list leads nowhere further."""
    field = None
    for key in location:
        inner = next((part for part in [model, *_args(model)] if isinstance(part, type)), None)
        fields = inner.model_fields if inner is not None and issubclass(inner, BaseModel) else {}
        found = fields.get(str(key))
        if found is None:
            return field
        field, model = found, found.annotation
    return field


def _parts(field: FieldInfo) -> Iterator[Any]:
    """The types and limits that a field's annotation is made of."""
    for part in [*field.metadata, field.annotation, *_args(field.annotation)]:
        yield from part.metadata if isinstance(part, FieldInfo) else [part]


def _args(annotation: object) -> Iterator[Any]:
    """What an annotation is made of, at every depth."""
    metadata = getattr(annotation, "__metadata__", ())
    for part in (*get_args(annotation), *metadata):
        yield part
        yield from _args(part)
