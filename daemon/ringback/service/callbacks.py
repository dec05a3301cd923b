"""Per-event callbacks: may this URL be called, and which lane its delivery stands in.

Role: judges an event's ``callback`` under the operator's rules, and knows the callback lanes that are in use. A lane is
for one origin of one tenant; it is made when an event names it and forgotten when it owes nothing.
Rules: the producer owns no endpoint, so nothing is proved; the host patterns stand in for it, and the egress guard
judges every connect as always. At most ``MAX_LANES_A_TENANT`` origins of a tenant have a lane of their own at once;
what goes beyond shares one more. Numbers of lanes come from the table, with the commit.
Must not know: SQL, how lanes run, how a request is made.
"""

from collections.abc import Callable, Iterable, Mapping

import msgspec

from ringback import dialects
from ringback.core.callbacks import host_allowed, origin_of
from ringback.core.egress import EgressPolicy, judge_url
from ringback.core.model import Callback, Endpoint, EndpointStatus, Event, Rejection, Secret
from ringback.core.names import Names
from ringback.core.retry import largest_gap_ms
from ringback.dialects import Dialect, Shot
from ringback.store.callbacks import CallbackLane

#: Origins of one tenant that have a lane of their own at once.
MAX_LANES_A_TENANT = 1000
#: The origin of the lane that the others share.
OVERFLOW = ""
#: What the producer gave, named as it did.
_FIELD = "callback"


class CallbackRules(msgspec.Struct, frozen=True):
    """The operator's word: whether there are callbacks at all, and to which hosts (patterns)."""

    enabled: bool = True
    hosts: tuple[str, ...] = ("*",)


class Rules(msgspec.Struct, frozen=True):
    """The rules of everybody, and of tenants that have their own."""

    general: CallbackRules = CallbackRules()
    by_tenant: Mapping[str, CallbackRules] = {}

    def of(self, tenant: str) -> CallbackRules:
        """Those in force for a tenant."""
        return self.by_tenant.get(tenant, self.general)


class _Place:
    """A lane in use. ``number`` None: its first event isn't committed yet. ``coming``: events on their way to it."""

    __slots__ = ("coming", "number")

    def __init__(self) -> None:
        self.number: int | None = None
        self.coming = 0


class Callbacks:
    """The judge and the register of lanes."""

    def __init__(self, policy: EgressPolicy, rules: Rules | None = None, names: Names | None = None) -> None:
        self._policy = policy
        self._rules = rules or Rules()
        self._names = names or dialects.vocabulary({})
        self._places: dict[str, dict[str, _Place]] = {}
        self._lanes: dict[int, tuple[str, str]] = {}
        self._held = False

    def reconfigure(self, policy: EgressPolicy, rules: Rules) -> None:
        """Judge by these from the next event on."""
        self._policy, self._rules = policy, rules

    # -- may it be called --------------------------------------------------------------------------------------------

    def judge(self, event: Event, callback: Callback) -> str | Rejection:
        """The origin it goes to; or why it may not be called or can't be made. Messages never repeat the URL."""
        rules = self._rules.of(event.tenant)
        if not rules.enabled:
            return Rejection("forbidden", "callbacks are switched off", _FIELD)
        target = judge_url(self._policy, callback.url)
        if isinstance(target, Rejection):
            code = "forbidden" if target.code == "forbidden" else "invalid_event"
            return Rejection(code, f"{_FIELD}.{target.message}", f"{_FIELD}.url")
        if not host_allowed(rules.hosts, target.host):
            return Rejection("forbidden", f"{_FIELD}.url: callbacks.hosts doesn't allow this host", f"{_FIELD}.url")
        wrong = self._unmade(event, callback)
        return origin_of(target) if wrong is None else wrong

    def _unmade(self, event: Event, callback: Callback) -> Rejection | None:
        """Whether its dialect can make what it asks for."""
        dialect = dialects.get(callback.dialect)
        if dialect is None:
            return _invalid("dialect", f"must be one of: {', '.join(dialects.names())}")
        word = self._names.own(dialect.name, event.type)
        if not dialect.expresses(word):
            return _invalid("dialect", f"{dialect.name} can't express the type {event.type}")
        asked = {"method": callback.method} if callback.method else {}
        if dialect.expresses_data and not dialect.expresses_data(word, event.data, asked):
            return _invalid("dialect", f"{dialect.name} can't express this event: {dialect.wants}")
        if callback.method and dialect.method(Shot(event, word, method=callback.method)) != callback.method:
            return _invalid("method", f"{callback.method} is nothing {dialect.name} can do")
        if callback.extra and not dialect.extras:
            return _invalid("extra", f"is nothing {dialect.name} has a place for")
        return _secret_problem(dialect, callback)

    # -- lanes -------------------------------------------------------------------------------------------------------

    @property
    def lanes(self) -> Iterable[int]:
        """The numbers of all lanes in use; don't await while iterating."""
        return self._lanes.keys()

    def reserve(self, tenant: str, origin: str) -> str:
        """Whose lane an event that is about to be written stands in: its origin's, or the one that is shared."""
        places = self._places.setdefault(tenant, {})
        if origin not in places and not self._has_room(places):
            origin = OVERFLOW
        place = places.setdefault(origin, _Place())
        place.coming += 1
        return origin

    def written(self, tenant: str, origin: str, number: int | None) -> None:
        """The event is on disk, its delivery in that lane; None: it isn't, or it was there before."""
        place = self._places[tenant][origin]
        place.coming -= 1
        if number is not None:
            place.number = number
            self._lanes[number] = (tenant, origin)
        else:
            self._forget_if_unused(tenant, origin)

    def adopt(self, lane: CallbackLane) -> bool:
        """A lane owes something again; False if its tenant has too many at once."""
        places = self._places.setdefault(lane.tenant, {})
        if lane.lane not in self._lanes:
            if lane.origin not in (*places, OVERFLOW) and not self._has_room(places):
                return False
            places.setdefault(lane.origin, _Place()).number = lane.lane
            self._lanes[lane.lane] = (lane.tenant, lane.origin)
        return True

    def release(self, number: int) -> None:
        """The lane owes nothing any more."""
        tenant, origin = self._lanes.pop(number)
        place = self._places[tenant][origin]
        if place.number == number:
            place.number = None
        self._forget_if_unused(tenant, origin)

    def forget_tenant(self, tenant: str) -> list[int]:
        """The tenant was erased: what its lanes owe is not sent. Answers their numbers; new events get new lanes."""
        numbers = [number for number, (whose, _) in self._lanes.items() if whose == tenant]
        for number in numbers:
            self.release(number)
        return numbers

    def stand_in(self, number: int, event: Event | None = None) -> Endpoint | None:
        """What an attempt is made with in place of an endpoint; None if that is no callback's lane.

        Without an event what holds for the lane as a whole: the longest retries any of its events may have.
        """
        found = self._lanes.get(number)
        if found is None:
            return None
        callback = event.callback if event is not None else None
        stand_in = receiver(number, found[0], event, callback) if event and callback else _anybody(number, found[0])
        return msgspec.structs.replace(stand_in, status=EndpointStatus.PAUSED) if self._held else stand_in

    @property
    def held(self) -> bool:
        """Whether all callbacks wait until somebody lets them go."""
        return self._held

    def holder(self, tell: Callable[[int], None]) -> Callable[[bool], None]:
        """What holds all callbacks, as a pause holds an endpoint's, or lets them go; ``tell(lane)`` hears of each."""

        def hold(held: bool) -> None:  # noqa: FBT001 - the state itself
            self._held = held
            for lane in list(self._lanes):
                tell(lane)

        return hold

    def _has_room(self, places: dict[str, _Place]) -> bool:
        return len(places) - (OVERFLOW in places) < MAX_LANES_A_TENANT

    def _forget_if_unused(self, tenant: str, origin: str) -> None:
        places = self._places[tenant]
        place = places[origin]
        if place.number is None and not place.coming:
            del places[origin]
            if not places:
                del self._places[tenant]


def receiver(number: int, tenant: str, event: Event, callback: Callback) -> Endpoint:
    """A callback's receiver as an endpoint without an id, so that it is sent, judged and shown like one."""
    return Endpoint(
        lane=number,
        id="",
        tenant=tenant,
        url=callback.url,
        dialect=callback.dialect,
        created_at_ms=event.created_at_ms,
        updated_at_ms=event.created_at_ms,
        secrets=(Secret(callback.secret, 0),) if callback.secret else (),
    )


def _anybody(number: int, tenant: str) -> Endpoint:
    found = [dialect for name in dialects.names() if (dialect := dialects.get(name))]
    patient = max((dialect.default_retry for dialect in found), key=largest_gap_ms)
    return Endpoint(number, "", tenant, "", "pulse", 0, 0, retry=patient)


def _secret_problem(dialect: Dialect, callback: Callback) -> Rejection | None:
    problem = dialect.check_secret(callback.secret, {}) if callback.secret else None
    return None if problem is None else _invalid("secret", problem)


def _invalid(member: str, words: str) -> Rejection:
    return Rejection("invalid_event", f"{_FIELD}.{member} {words}", f"{_FIELD}.{member}")
