"""The API's tokens in memory, and the verbs that add and remove them.

Role: who bears which token; a look-up for every request, a write now and then.
Rules: what is looked up is the digest, never the text, so how long a look-up takes says nothing about any token. The
text is handed out once, by ``add``, and is never logged. A removed token is refused from the moment it is committed.
Must not know: SQL, HTTP, what an access is good for.
"""

import hmac
import re
from collections.abc import Iterable, Mapping

from ringback.core.tokens import TOKEN_BYTES, Access, Token, digest_of, new_token
from ringback.kit.clock import Chance, Clock
from ringback.kit.log import get_logger
from ringback.service.endpoint_fields import Problem, Refusal, refusal
from ringback.store import tokens as table
from ringback.store.writer import Writer

MAX_TOKENS = 10_000

_TENANT = re.compile(r"[A-Za-z0-9_-]{1,64}")
_log = get_logger()


class Tokens:
    """All tokens, by digest."""

    def __init__(self, writer: Writer, clock: Clock, chance: Chance, stored: Iterable[Token] = ()) -> None:
        self._writer = writer
        self._clock = clock
        self._chance = chance
        self._by_digest = {token.digest: token for token in stored}

    def find(self, text: str) -> Access | None:
        """What the bearer of this text may touch; None if it is no token of ours."""
        digest = digest_of(text)
        token = None if digest is None else self._by_digest.get(digest)
        if digest is None or token is None or not hmac.compare_digest(digest, token.digest):
            return None
        return Access(token.tenant, token.id)

    def newest_first(self, before_id: str | None = None) -> list[Token]:
        """All, by id downwards, from the one before ``before_id`` on."""
        found = sorted(self._by_digest.values(), key=lambda token: token.id, reverse=True)
        return [token for token in found if before_id is None or token.id < before_id]

    async def add(self, body: object) -> tuple[Token, str] | Refusal:
        """Make a token from an API body, ``{"tenant"}`` or nothing; answers it with its text, which is gone after this.

        Raises StoreError if it can't be written.
        """
        tenant = read_tenant(body)
        if isinstance(tenant, Refusal):
            return tenant
        token, text = make(tenant, self._clock, self._chance)

        def know(inserted: bool) -> None:  # noqa: FBT001 - the writer's answer
            if inserted:
                self._by_digest[token.digest] = token

        if not await self._writer.run(table.insert(token, MAX_TOKENS), know):
            return too_many()
        _log.info("token.added", token_id=token.id, tenant=token.tenant)
        return token, text

    async def remove(self, token_id: str) -> Token | Refusal:
        """Its bearer is nobody from now on. Raises StoreError if it can't be written."""
        token = next((token for token in self._by_digest.values() if token.id == token_id), None)
        if token is None:
            return _no_token(token_id)
        digest = token.digest
        if not await self._writer.run(table.delete(token_id), lambda _: self._forget(digest)):
            return _no_token(token_id)
        _log.info("token.removed", token_id=token.id, tenant=token.tenant)
        return token

    def _forget(self, digest: bytes) -> None:
        self._by_digest.pop(digest, None)

    def forget_tenant(self, tenant: str) -> None:
        """The tenant was erased, its tokens with it: their bearers are nobody from now on."""
        self._by_digest = {digest: token for digest, token in self._by_digest.items() if token.tenant != tenant}


def make(tenant: str | None, clock: Clock, chance: Chance) -> tuple[Token, str]:
    """A new token and its text."""
    text = new_token(chance.token(TOKEN_BYTES))
    digest = digest_of(text)
    assert digest is not None, "a token that was just made has the form of one"
    return Token(chance.new_id(), tenant, digest, clock.now_ms()), text


def _no_token(token_id: str) -> Refusal:
    return Refusal("not_found", f"there is no token {token_id}")


def too_many() -> Refusal:
    """The refusal of a token beyond the limit."""
    return Refusal("conflict", f"there are {MAX_TOKENS} tokens already, which is the limit")


def read_tenant(body: object) -> str | Refusal | None:
    """The tenant of a body that asks for a token; None is the operator."""
    if not isinstance(body, Mapping):
        return refusal([Problem((), "the body must be a JSON object", "invalid_request")])
    problems = [Problem((str(name),), "unknown field", "invalid_request") for name in body if name != "tenant"]
    tenant = body.get("tenant")
    if tenant is not None and (not isinstance(tenant, str) or not _TENANT.fullmatch(tenant)):
        problems.append(Problem(("tenant",), "must be 1 to 64 characters of A-Z a-z 0-9 _ -", "invalid_request"))
    return refusal(problems) if problems else tenant
