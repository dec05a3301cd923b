"""A producer that may speak for one tenant only, and events of the daemon's own."""

import pytest

from ringback.core.events import EventLimits, own_event, parse_line
from ringback.core.model import Event, Rejection

LIMITS = EventLimits()


@pytest.mark.parametrize("tenant", ["", ',"tenant":"acme"', ',"tenant":"\\u0061cme"'])
def test_its_tenant_is_filled_in_or_confirmed(tenant):
    """Absent or named, whatever way it is written."""
    event = parse_line(b'{"type":"a","data":{}%b}' % tenant.encode(), LIMITS, 1, "id", "acme")
    assert isinstance(event, Event)
    assert event.tenant == "acme"


@pytest.mark.parametrize("tenant", ["default", "acme2", "ACME"])
def test_another_tenant_is_forbidden(tenant):
    """Named, with the member at fault."""
    told = parse_line(b'{"type":"a","data":{},"tenant":"%b"}' % tenant.encode(), LIMITS, 1, "id", "acme")
    assert isinstance(told, Rejection)
    assert (told.code, told.field) == ("forbidden", "tenant")


def test_the_digest_does_not_depend_on_who_filled_in_the_tenant():
    """The same event by another door is a duplicate, not a conflict."""
    filled = parse_line(b'{"type":"a","data":{}}', LIMITS, 1, "id", "acme")
    named = parse_line(b'{"type":"a","data":{},"tenant":"acme"}', LIMITS, 1, "id")
    assert filled.digest == named.digest


def test_an_event_of_our_own_is_an_event():
    """Of a type nobody else may use, without an id of the producer's."""
    event = own_event("id", "acme", "ringback.test", b"{}", 5)
    assert (event.type, event.created_at_ms, event.id_given) == ("ringback.test", 5, False)
    assert len(event.digest) == 32
