"""The short hand in which the API's answers are written down: words that stand for JSON Schemas.

Rules: a kind is a word (``text``, ``time``, ``int``, ``number``, ``bool``, ``any``, another schema's name), with ``?``
if it may be null, ``[…]`` for a list of it, ``{…}`` for an object of them by name.
Must not know: which schemas there are.
"""

from typing import Any

Schema = dict[str, Any]

_REF = "#/components/schemas/"
_WORDS: dict[str, Schema] = {
    "text": {"type": "string"},
    "time": {"type": "string", "format": "date-time"},
    "int": {"type": "integer"},
    "number": {"type": "number"},
    "bool": {"type": "boolean"},
    "any": {},
}


def kind(text: str) -> Schema:
    """The schema of a kind in short hand."""
    if text.endswith("?"):
        return {"anyOf": [kind(text[:-1]), {"type": "null"}]}
    if text.startswith("["):
        return {"type": "array", "items": kind(text[1:-1])}
    if text.startswith("{"):
        return {"type": "object", "additionalProperties": kind(text[1:-1])}
    return _WORDS.get(text) or ({} if text == "any" else {"$ref": _REF + text})


def object_of(description: str, /, **members: str) -> Schema:
    """An object that always has these members."""
    properties = {name: kind(text) for name, text in members.items()}
    return {"type": "object", "description": description, "properties": properties, "required": list(members)}


def page_of(of: str) -> Schema:
    """A page of a list of them."""
    return object_of(
        "One page, newest first; the cursor of the next, null at the end", data=f"[{of}]", next_cursor="text?"
    )


def optional(schema: Schema, *names: str) -> Schema:
    """The same with members that may be missing."""
    return {**schema, "required": [name for name in schema["required"] if name not in names]}


def choices(description: str, *values: str) -> Schema:
    """One of these texts."""
    return {"type": "string", "description": description, "enum": list(values)}
