"""Whom a line of the log is about: the keys that every line about an endpoint has.

Rules: ids, and the names by which people know things; never a URL, a secret or a payload.
Must not know: what the line says.
"""

from ringback.core.model import Endpoint


def named(endpoint: Endpoint) -> dict[str, object]:
    """Its id and tenant, and its name if it has one. The receiver of a callback has no id."""
    if endpoint.name:
        return {"endpoint_id": endpoint.id, "endpoint_name": endpoint.name, "tenant": endpoint.tenant}
    return {"endpoint_id": endpoint.id or None, "tenant": endpoint.tenant}
