"""The endpoints of the demo: one for each dialect, and three customers in trouble.

Role: what each is called, which events it takes, how it is registered.
Rules: what an endpoint takes is written down here and not asked of the daemon, so that an event sent to too few or too
many shows.
Must not know: processes, sockets, the order of the story.
"""

from dataclasses import dataclass, field
from typing import Any

from ringback.cli.demo.jobs import COMPLETED, DICTATED, ENTITY_URL, FAILED
from ringback.kit.clock import Chance

FLAKY = "flaky"
SLOW = "slow"
DEAD = "dead"
AZURE = "azure-speech"

#: How long the slow one thinks before it answers.
SLOW_S = 0.15
PLAIN_DELAYS_S = [1.0, 2.0, 4.0]
FLAKY_DELAYS_S = [0.5, 1.0, 1.0, 2.0, 2.0, 2.0, 4.0, 4.0]
DEAD_DELAYS_S = [0.5, 1.5]
SECRET_BYTES = 24

EVERY_TYPE = frozenset({COMPLETED, FAILED, DICTATED})
JOBS = frozenset({COMPLETED, FAILED})


@dataclass(frozen=True)
class Role:
    """One endpoint to register. ``takes``: the types it is owed; ``fields``: what the API is told besides its URL.

    ``answers`` is False for the one that nobody listens at; ``proves``: it must answer a challenge before it gets
    anything.
    """

    name: str
    about: str
    dialect: str = "standard"
    takes: frozenset[str] = EVERY_TYPE
    fields: dict[str, Any] = field(default_factory=dict)
    delays_s: list[float] = field(default_factory=lambda: PLAIN_DELAYS_S)
    answers: bool = True
    proves: bool = False


def make_cast(refusals: int, chance: Chance) -> list[Role]:
    """All endpoints. ``refusals``: how many requests the flaky one refuses."""
    jobs_only = {"events": ["stt.jobs.*"]}
    pulse = {"secret": _secret(chance), "options": {"signature": "atoms"}}
    azure = {"options": {"self_template": ENTITY_URL + "{job_id}"}}
    speechlive = {"options": {"shared_secret": _secret(chance)}}
    return [
        Role("standard", "takes everything"),
        Role("prosa", "filters stt.jobs.*", "prosa", JOBS, jobs_only),
        Role("deepva", "can't say “failed”", "deepva", frozenset({COMPLETED})),
        Role("pulse", "filters stt.jobs.*", "pulse", JOBS, jobs_only | pulse),
        Role(AZURE, "proves itself first", AZURE, JOBS, azure, proves=True),
        Role("speechlive", "takes dictations", "speechlive", frozenset({DICTATED}), speechlive),
        Role(FLAKY, f"{refusals} × 503 first", delays_s=FLAKY_DELAYS_S),
        Role(SLOW, f"{SLOW_S * 1000:.0f} ms an answer"),
        Role(DEAD, "nobody listens", delays_s=DEAD_DELAYS_S, answers=False),
    ]


def _secret(chance: Chance) -> str:
    return chance.token(SECRET_BYTES).hex()
