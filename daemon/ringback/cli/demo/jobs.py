"""The events of the demo: what a speech platform says when a job ends or somebody has dictated.

Rules: pure and the same on every run, so that what arrives can be compared with what was written. The data carries its
own id, as a platform's does: the formats that send nothing but the data are told apart by it.
Must not know: sockets, endpoints, who reads it.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

COMPLETED = "stt.jobs.completed"
FAILED = "stt.jobs.failed"
DICTATED = "dictation.created"

#: One job in this many fails.
FAILS_EVERY = 12
#: One event in this many is a dictation; none of them is a failed job.
DICTATED_EVERY = 6
#: Where a job is found, for the format that sends a pointer to it and no data.
ENTITY_URL = "https://speech.example/speechtotext/transcriptions/"

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
#: Phrases that the events hold: who can read one of them where it shouldn't stand has read a transcript.
PHRASES = tuple(text for _, text in _SPOKEN)
_FAILURES = (
    ("audio_unreadable", "The file holds no audio track."),
    ("language_not_supported", "No model for the language that was asked for."),
    ("audio_too_long", "The recording is longer than four hours."),
)


@dataclass(frozen=True)
class Job:
    """One event to emit: ``line`` is what goes over the socket.

    ``digest`` stands for its data (see ``digest_of``), ``pointer`` for the URL it is found at.
    """

    id: str
    type: str
    line: bytes
    digest: str
    pointer: str


def make_jobs(count: int) -> list[Job]:
    """That many events: ended jobs, every twelfth a failed one, and in every six a dictation."""
    return [_job(number) for number in range(1, count + 1)]


def digest_of(data: dict[str, Any]) -> str:
    """A short fingerprint of an event's data that doesn't depend on how it is written as JSON."""
    text = json.dumps(data, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _job(number: int) -> Job:
    if number % DICTATED_EVERY == DICTATED_EVERY // 2:
        event_id, event_type, data = f"dictation-{number:05d}", DICTATED, _dictation(number)
        data = {"id": event_id} | data
    else:
        event_id = f"job-{number:05d}"
        event_type, data = _ended(number)
        data = {"job_id": event_id} | data
    line = json.dumps({"id": event_id, "type": event_type, "data": data}, ensure_ascii=False)
    pointer = digest_of({"self": ENTITY_URL + event_id})
    return Job(event_id, event_type, line.encode() + b"\n", digest_of(data), pointer)


def _ended(number: int) -> tuple[str, dict[str, Any]]:
    audio = {"audio": {"duration_s": 4 + number * 37 % 540, "channels": 1 + number % 2}}
    if number % FAILS_EVERY == 0:
        code, message = _FAILURES[number // FAILS_EVERY % len(_FAILURES)]
        return FAILED, audio | {"error": {"code": code, "message": message}}
    return COMPLETED, audio | {"transcript": _transcript(number)}


def _transcript(number: int) -> dict[str, Any]:
    language, text = _SPOKEN[number % len(_SPOKEN)]
    words = [
        {"word": word, "start_s": round(place * 0.41, 2), "end_s": round(place * 0.41 + 0.36, 2)}
        for place, word in enumerate(text.split())
    ]
    return {"language": language, "confidence": 0.93, "text": text, "words": words}


def _dictation(number: int) -> dict[str, Any]:
    return {
        "state": 5,
        "priority": number % 16,
        "title": f"Arztbrief – Frau Größl, {number}",
        "soundLengthInMsec": 4_000 + number * 970 % 90_000,
        "audioInformation": {"numOfChannels": 1, "sampleRate": 16_000},
        "subscriptionId": 7,
    }
