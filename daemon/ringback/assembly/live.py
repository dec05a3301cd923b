"""The part of the composition root that says what a reload can change, and how.

Role: a table of settings' keys and of what is told of them.
Rules: as for the package. Must not know: as there.
"""

from ringback.api.deps import Deps
from ringback.assembly.outward import Guard
from ringback.config import Settings
from ringback.core.proxy import parse_proxy
from ringback.kit.log import set_level
from ringback.service.attempt import Attempts
from ringback.service.budget import Budget
from ringback.service.dispatch import Dispatch
from ringback.service.endpoints import Endpoints
from ringback.service.janitor import Janitor
from ringback.service.reload import Live, policy_of
from ringback.service.settings_parts import defaults_of, keep_of, limits_of, rules_of, ways_of
from ringback.service.verify import Verify
from ringback.transports.http import HttpSender


def live_settings(
    guard: Guard,
    sender: HttpSender,
    endpoints: Endpoints,
    dispatch: Dispatch,
    attempts: Attempts,
    janitor: Janitor,
    verify: Verify,
    deps: Deps,
    *,
    budget: Budget,
) -> tuple[Live, ...]:
    """What a reload can change, and how."""

    def egress(settings: Settings) -> None:
        guard.policy = policy_of(settings)
        endpoints.reconfigure(guard.policy, defaults_of(settings))
        sender.route(parse_proxy(settings.egress.proxy))

    def deliveries(settings: Settings) -> None:
        delivery = settings.delivery
        attempts.reconfigure(delivery.connect_timeout_s, delivery.max_response_bytes, delivery.divert_to)
        deps.max_response_bytes, deps.divert_to = delivery.max_response_bytes, delivery.divert_to
        verify.reconfigure(delivery.connect_timeout_s, delivery.divert_to)
        dispatch.limit(limits_of(settings))
        sender.limit_idle(delivery.max_idle_connections)
        endpoints.reconfigure(guard.policy, defaults_of(settings))

    names = ("concurrency", "timeout_s", "connect_timeout_s", "max_response_bytes", "max_body_bytes_in_flight")
    keys = tuple(f"delivery.{name}" for name in (*names, "max_idle_connections", "divert_to"))
    return (
        Live(("egress.",), egress),
        Live((*keys, "endpoint_defaults."), deliveries),
        Live(("retention.events_days", "retention.attempts_days"), lambda s: janitor.reconfigure(keep_of(s))),
        Live(("retention.max_database_bytes",), lambda s: budget.limit(s.retention.max_database_bytes)),
        Live(("egress.", "callbacks.", "tenant."), lambda s: deps.callbacks.reconfigure(policy_of(s), rules_of(s))),
        Live(("egress.", *keys), lambda s: deps.doctor.follow(ways_of(s))),
        Live(("log.level",), lambda settings: set_level(settings.log.level)),
    )
