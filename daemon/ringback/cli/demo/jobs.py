"""The events of the demo: what a speech platform says when a job ends.

Rules: pure and the same on every run, so that what arrives can be compared with what was written.
Must not know: sockets, endpoints, who reads it.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

#: One job in this many fails.
FAILS_EVERY = 12

_SPOKEN = (
    ("en-GB", "Good morning, thank you for calling. How can I help you today?"),
    ("de-DE", "Guten Tag, ich möchte den Termin am Donnerstag um eine Stunde verschieben."),
    ("en-US", "The patient reports mild pain in the left knee after running, and no swelling."),
    ("fr-FR", "Bonjour, pouvez-vous me rappeler demain avant dix heures ?"),
    ("id-ID", "Selamat pagi, saya ingin menanyakan tagihan bulan lalu."),
    ("en-US", "Item four on the agenda: the budget is approved, and the vote was unanimous."),
    ("es-ES", "La reunión empieza a las nueve; por favor, traiga el informe del trimestre."),
    ("ja-JP", "本日はお電話ありがとうございます。ご用件をお伺いします。"),
)
_FAILURES = (
    ("audio_unreadable", "The file holds no audio track."),
    ("language_not_supported", "No model for the language that was asked for."),
    ("audio_too_long", "The recording is longer than four hours."),
)


@dataclass(frozen=True)
class Job:
    """One event to emit: ``line`` is what goes over the socket, ``digest`` stands for its data (see ``digest_of``)."""

    id: str
    line: bytes
    digest: str


def make_jobs(count: int) -> list[Job]:
    """That many ended jobs, completed ones and, every twelfth, a failed one."""
    return [_job(number) for number in range(1, count + 1)]


def digest_of(data: dict[str, Any]) -> str:
    """A short fingerprint of an event's data that doesn't depend on how it is written as JSON."""
    text = json.dumps(data, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _job(number: int) -> Job:
    failed = number % FAILS_EVERY == 0
    event_id = f"stt-{number:05d}"
    data = {"job_id": f"job-{number:05d}", "audio": {"duration_s": 4 + number * 37 % 540, "channels": 1 + number % 2}}
    data |= _failure(number) if failed else _transcript(number)
    event_type = "stt.jobs.failed" if failed else "stt.jobs.completed"
    line = json.dumps({"id": event_id, "type": event_type, "data": data}, ensure_ascii=False)
    return Job(event_id, line.encode() + b"\n", digest_of(data))


def _failure(number: int) -> dict[str, Any]:
    code, message = _FAILURES[number // FAILS_EVERY % len(_FAILURES)]
    return {"status": "failed", "error": {"code": code, "message": message}}


def _transcript(number: int) -> dict[str, Any]:
    language, text = _SPOKEN[number % len(_SPOKEN)]
    words = [
        {"word": word, "start_s": round(place * 0.41, 2), "end_s": round(place * 0.41 + 0.36, 2)}
        for place, word in enumerate(text.split())
    ]
    return {"status": "completed", "language": language, "confidence": 0.93, "transcript": text, "words": words}
