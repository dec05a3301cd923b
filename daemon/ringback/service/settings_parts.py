"""What the parts need of the settings, in the parts' own words.

Must not know: what a part does with it.
"""

from ringback.config import Settings
from ringback.core.proxy import parse_proxy
from ringback.core.schedule import Limits
from ringback.service.callbacks import CallbackRules, Rules
from ringback.service.doctor import Ways
from ringback.service.effective import EndpointDefaults
from ringback.service.janitor import DAY_MS, Keep
from ringback.service.reload import policy_of


def rules_of(settings: Settings) -> Rules:
    """What a tenant doesn't say for itself is as for everybody."""
    general = CallbackRules(settings.callbacks.enabled, settings.callbacks.hosts)
    own = {name: tenant.callbacks for name, tenant in settings.tenant.items()}
    return Rules(
        general,
        {
            name: CallbackRules(
                general.enabled if its.enabled is None else its.enabled,
                general.hosts if its.hosts is None else its.hosts,
            )
            for name, its in own.items()
        },
    )


def defaults_of(settings: Settings) -> EndpointDefaults:
    """What endpoints leave unsaid."""
    defaults = settings.endpoint_defaults
    return EndpointDefaults(defaults.dialect, defaults.concurrency, settings.delivery.timeout_s)


def ways_of(settings: Settings) -> Ways:
    """What decides a request's way."""
    delivery = settings.delivery
    return Ways(
        policy=policy_of(settings),
        connect_timeout_s=delivery.connect_timeout_s,
        timeout_s=delivery.timeout_s,
        divert_to=delivery.divert_to,
        nameservers=delivery.nameservers,
        proxy=parse_proxy(settings.egress.proxy),
    )


def limits_of(settings: Settings) -> Limits:
    """What may be in flight, all lanes together."""
    return Limits(settings.delivery.concurrency, settings.delivery.max_body_bytes_in_flight)


def keep_of(settings: Settings) -> Keep:
    """How long events and attempts are kept."""
    return Keep(settings.retention.events_days * DAY_MS, settings.retention.attempts_days * DAY_MS)
