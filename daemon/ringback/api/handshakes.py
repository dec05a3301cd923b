"""Where a receiver consents later: the callback of a CloudEvents handshake.

Role: GET or POST at a path that holds the token; whoever has it may answer for the endpoint, this once.
Rules: the token is all there is to know, so nobody is asked for another; what is told tells nothing of the endpoint. A
HEAD, which a mail program may send ahead, consents to nothing.
Must not know: what a consent is worth.
"""

from aiohttp import web

from ringback.api.deps import deps_of
from ringback.api.problems import answer, problem, refused
from ringback.service.endpoint_fields import Refusal

ORIGIN_HEADER = "WebHook-Allowed-Origin"
RATE_HEADER = "WebHook-Allowed-Rate"


async def consent(request: web.Request) -> web.Response:
    """200 once; 404 for any other token and ever after; 422 if the rate or the origin can't be taken."""
    if request.method == "HEAD":
        refused_head = problem("method_not_allowed", "consent by GET or POST", status=405)
        refused_head.headers["Allow"] = "GET,POST"
        return refused_head
    headers = request.headers
    allowed, rate = headers.get(ORIGIN_HEADER, "").strip(), headers.get(RATE_HEADER, "").strip()
    done = await deps_of(request).verify.consent(request.match_info["token"], allowed, rate)
    return refused(done) if isinstance(done, Refusal) else answer({"status": "consented"})
