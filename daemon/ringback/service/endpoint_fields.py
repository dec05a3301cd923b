"""What a caller may say about an endpoint: shapes, rules, and the merge of a patch.

Role: pure judgement of JSON that a create or a patch brought. Every problem is told at once, each with its place.
Rules: an unknown member is an error; a member whose behaviour isn't built is refused by name, never ignored; null is
the default (CONTRACT, Managing; SEMANTICS, Endpoints). URLs are judged without DNS; names are the caller's to resolve.
Must not know: the store, the snapshot, HTTP.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from ringback import dialects
from ringback.config.words import JSON, meant, words
from ringback.core import egress, headers, matching, retry
from ringback.core.endpoint_state import UNASKED_HANDSHAKES
from ringback.core.handshake_kinds import KINDS
from ringback.core.model import Endpoint, Rejection, RetryPolicy
from ringback.dialects import Dialect

MAX_DESCRIPTION = 1024
MAX_METADATA = 64
MAX_METADATA_KEY = 64
MAX_METADATA_VALUE = 1024
MAX_CONCURRENCY = 1024
MAX_RATE_REQUESTS = 1_000_000
MIN_RATE_S = 0.01
MAX_RATE_S = 86_400.0
MIN_TIMEOUT_S = 0.1
MAX_TIMEOUT_S = 600.0

#: Wrong members of one body that are told; a list may hold ten thousand, each of them put into words.
MAX_TOLD = 100

#: Named in CONTRACT, not built: refused as such, not as unknown.
UNBUILT_ORDERINGS = frozenset({"key", "strict"})
BUILT_HANDSHAKES = (*sorted(UNASKED_HANDSHAKES), *KINDS)

#: A patch must not change these.
FIXED = ("tenant", "dialect", "id", "status")
#: A patch merges these member by member: maps of the caller's own names, then objects of ours.
MERGED = ("headers", "metadata", "options")
MERGED_OBJECTS = ("retry", "rate_limit")
#: One form of a retry policy; ``delays_s`` is the other.
EXPONENTIAL = frozenset({"initial_s", "factor", "max_s", "attempts"})

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class Problem(msgspec.Struct, frozen=True):
    """One thing wrong with a body. ``loc``: the way to it, member names and list indices."""

    loc: tuple[str | int, ...]
    msg: str
    code: str = "invalid_endpoint"


class Refusal(msgspec.Struct, frozen=True):
    """A verb that was not done.

    ``code``: ``invalid_endpoint``, ``invalid_url``, ``forbidden`` (egress), ``not_supported``, ``conflict``,
    ``not_found`` or ``too_many_endpoints``.
    """

    code: str
    message: str
    problems: tuple[Problem, ...] = ()


class _Members(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class RetryFields(_Members):
    """Either form of a retry policy (model.RetryPolicy)."""

    delays_s: list[float] | None = None
    initial_s: float | None = None
    factor: float | None = None
    max_s: float | None = None
    attempts: int | None = None
    jitter: float | None = None


class RateLimitFields(_Members):
    """A rate limit (model.RateLimit)."""

    requests: Annotated[int, Field(ge=1, le=MAX_RATE_REQUESTS)]
    per_s: Annotated[float, Field(ge=MIN_RATE_S, le=MAX_RATE_S)]


class EndpointFields(_Members):
    """The members of a create or a patch; which were given is in ``model_fields_set``."""

    url: Annotated[str, Field(min_length=1)] | None = None
    tenant: Annotated[str, Field(pattern=r"\A[A-Za-z0-9_-]{1,64}\z")] | None = None
    name: Annotated[str, Field(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,127}\z")] | None = None
    description: Annotated[str, Field(max_length=MAX_DESCRIPTION)] | None = None
    dialect: str | None = None
    events: list[str] | None = None
    secret: str | None = None
    concurrency: Annotated[int, Field(ge=1, le=MAX_CONCURRENCY)] | None = None
    rate_limit: RateLimitFields | None = None
    ordering: str | None = None
    timeout_s: Annotated[float, Field(ge=MIN_TIMEOUT_S, le=MAX_TIMEOUT_S)] | None = None
    retry: RetryFields | None = None
    handshake: str | None = None
    tls_verify: bool | None = None
    headers: dict[str, str] | None = None
    options: dict[str, str] | None = None
    metadata: dict[str, str] | None = None


class Judged(msgspec.Struct, frozen=True):
    """Fields that passed: the members that were given, the target of the url if one was, the policy if one was."""

    given: EndpointFields
    target: egress.Target | None
    retry: RetryPolicy | None


def refusal(problems: list[Problem]) -> Refusal:
    """One refusal of many problems; its code is the one a caller can do least about."""
    codes = {problem.code for problem in problems}
    code = next((code for code in ("not_supported", "forbidden") if code in codes), problems[0].code)
    first = problems[0]
    place = ".".join(str(part) for part in first.loc)
    return Refusal(code, f"{place}: {first.msg}" if place else first.msg, tuple(problems))


def read_create(body: object, default_dialect: str, policy: egress.EgressPolicy) -> tuple[Judged, Dialect] | Refusal:
    """Judge the body of a create; ``default_dialect`` is taken where it names none."""
    fields = _shape(body)
    if isinstance(fields, list):
        return refusal(fields)
    problems = [] if fields.url else [Problem(("url",), "is required")]
    dialect = dialects.get(fields.dialect or default_dialect)
    if dialect is None:
        problems.append(_unknown_dialect(fields.dialect or default_dialect))
    secrets = (fields.secret,) if fields.secret else ()
    return _judged(fields, dialect, policy, problems, options=fields.options or {}, secrets=secrets)


def read_patch(patch: object, endpoint: Endpoint, policy: egress.EgressPolicy) -> tuple[Judged, Dialect] | Refusal:
    """Judge a merge patch against the endpoint it changes; merged members come back whole."""
    dialect = dialects.get(endpoint.dialect)
    if not isinstance(patch, Mapping):
        return refusal([Problem((), "the body must be a JSON object")])
    fixed = [Problem((name,), "can't be changed") for name in FIXED if name in patch]
    fields = _shape(_merged(patch, endpoint))
    if isinstance(fields, list):
        return refusal(fixed + [problem for problem in fields if problem.loc[:1] not in [(name,) for name in FIXED]])
    if "url" in patch and patch["url"] is None:
        fixed.append(Problem(("url",), "is required: there is no default"))
    if dialect is None:
        fixed.append(_unknown_dialect(endpoint.dialect))
    options = fields.options or {} if "options" in fields.model_fields_set else endpoint.options
    secrets: tuple[str, ...] = (fields.secret,) if fields.secret else ()
    if "options" in fields.model_fields_set and "secret" not in fields.model_fields_set:
        secrets = tuple(secret.value for secret in endpoint.secrets)  # options may say how a secret is read
    return _judged(fields, dialect, policy, fixed, options=options, secrets=secrets)


def _merged(patch: Mapping[str, Any], endpoint: Endpoint) -> dict[str, Any]:
    """The patch with its objects merged into what there is (RFC 7396)."""
    merged = {name: value for name, value in patch.items() if name not in FIXED}
    for name in (*MERGED, *MERGED_OBJECTS):
        value = merged.get(name)
        if isinstance(value, Mapping):
            whole = {**_held(name, value, endpoint), **value}
            merged[name] = {key: kept for key, kept in whole.items() if kept is not None}
    return merged


def _held(name: str, patch: Mapping[str, Any], endpoint: Endpoint) -> dict[str, Any]:
    """What of the endpoint's own object stays under a patch of it."""
    held = getattr(endpoint, name)
    if name == "headers":  # their names are the same in any case
        named = {key.lower() for key in patch}
        return {key: value for key, value in held.items() if key.lower() not in named}
    if name not in MERGED_OBJECTS:
        return dict(held)
    members = {} if held is None else msgspec.structs.asdict(held)
    return _held_retry(members, patch) if name == "retry" else members


def _held_retry(members: dict[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Of the two forms only the one in use is there; it goes where the patch brings the other."""
    given = {key for key, value in patch.items() if value is not None}
    delays_s = members.pop("delays_s", None)
    if delays_s is not None and not given & EXPONENTIAL:
        return {"delays_s": list(delays_s), "jitter": members["jitter"]}
    if delays_s is not None or "delays_s" in given:
        return {key: value for key, value in members.items() if key not in EXPONENTIAL}
    return members


def _shape(body: object) -> EndpointFields | list[Problem]:
    if not isinstance(body, Mapping):
        return [Problem((), "the body must be a JSON object")]
    try:
        return EndpointFields.model_validate(dict(body))
    except ValidationError as failed:
        wrong = failed.errors(include_url=False, include_input=False)[:MAX_TOLD]
        return [Problem(tuple(error["loc"]), _said(error)) for error in wrong]


def _said(error: ErrorDetails) -> str:
    if error["type"] != "extra_forbidden":
        return words(error, EndpointFields, JSON) or error["msg"]
    *above, name = map(str, error["loc"])
    return "unknown field" + ("" if above else meant(name, EndpointFields.model_fields))


def _unknown_dialect(name: str) -> Problem:
    return Problem(("dialect",), f"there is no dialect {name!r}; there are: {', '.join(dialects.names())}")


def _judged(
    fields: EndpointFields,
    dialect: Dialect | None,
    policy: egress.EgressPolicy,
    problems: list[Problem],
    *,
    options: dict[str, str],
    secrets: tuple[str, ...],
) -> tuple[Judged, Dialect] | Refusal:
    target = egress.judge_url(policy, fields.url) if fields.url else None
    if isinstance(target, Rejection):
        problems.append(Problem(("url",), target.message.removeprefix("url: "), target.code))
    retry_policy = _retry_policy(fields.retry) if fields.retry else None
    problems += _unbuilt(fields) + _judge_maps(fields) + _judge_retry(fields.retry, retry_policy)
    problems += [Problem(("events",), text) for text in matching.check_patterns(fields.events or [])]
    if fields.name and _UUID.fullmatch(fields.name):
        problems.append(Problem(("name",), "must not look like an id"))
    if dialect is not None:
        problems += _judge_dialect(fields, dialect, options, secrets)
    if problems or dialect is None or isinstance(target, Rejection):
        return refusal(problems)
    return Judged(fields, target, retry_policy), dialect


def _unbuilt(fields: EndpointFields) -> list[Problem]:
    problems = []
    for name, value, built, unbuilt in (
        ("ordering", fields.ordering, ("none",), UNBUILT_ORDERINGS),
        ("handshake", fields.handshake, BUILT_HANDSHAKES, frozenset()),
    ):
        if value in unbuilt:
            problems.append(Problem((name,), f"{value} is not supported yet", "not_supported"))
        elif value is not None and value not in built:
            problems.append(Problem((name,), f"must be one of: {', '.join((*built, *sorted(unbuilt)))}"))
    return problems


def _judge_maps(fields: EndpointFields) -> list[Problem]:
    problems = [Problem(("headers",), text) for text in headers.check_headers(fields.headers or {})]
    metadata = fields.metadata or {}
    if len(metadata) > MAX_METADATA:
        problems.append(Problem(("metadata",), f"must have at most {MAX_METADATA} members"))
    problems += [
        Problem(("metadata", key[:MAX_METADATA_KEY]), f"at most {MAX_METADATA_KEY} and {MAX_METADATA_VALUE} characters")
        for key, value in metadata.items()
        if len(key) > MAX_METADATA_KEY or len(value) > MAX_METADATA_VALUE
    ]
    return problems


def _retry_policy(given: RetryFields) -> RetryPolicy:
    """The policy a caller means; missing members of the exponential form have the model's defaults."""
    members = given.model_dump(exclude_none=True)
    if given.delays_s is not None:
        members["delays_s"] = tuple(given.delays_s)
    elif members.keys() - {"jitter"}:
        members["delays_s"] = None
    return RetryPolicy(**members)


def _judge_retry(given: RetryFields | None, policy: RetryPolicy | None) -> list[Problem]:
    if given is None or policy is None:
        return []
    problems = [Problem(("retry",), text) for text in retry.check_policy(policy)]
    exponential = given.model_fields_set & EXPONENTIAL
    if given.delays_s is not None and exponential:
        problems.append(Problem(("retry",), f"delays_s and {', '.join(sorted(exponential))} exclude each other"))
    return problems


def _judge_dialect(
    fields: EndpointFields, dialect: Dialect, options: dict[str, str], secrets: tuple[str, ...]
) -> list[Problem]:
    problems = [Problem(("options",), text) for text in dialect.check_options(options)]
    said = {text: None for secret in secrets if (text := dialect.check_secret(secret, options))}
    problems += [Problem(("secret",), text) for text in said]
    taken = [name for name in fields.headers or {} if name.lower() in dialect.own_headers]
    return problems + [Problem(("headers",), f"header {name!r}: can't be set: the dialect sets it") for name in taken]
