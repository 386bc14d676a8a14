"""The webhook sender of the wetransform simulator: one event, signed, with whatever can go wrong on its way."""

import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any

import aiohttp

from simulators.wetransform.answers import Answers
from simulators.wetransform.state import Run

EVENT = "file:ready-for-download"


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where and how the account's webhook is set up, and what goes wrong with it.

    `signature` is "right", "wrong" or "none". Every `lose_every`th message is never sent (0: none is lost).
    """

    url: str
    secret: str
    delay_seconds: float = 0.0
    copies: int = 1
    signature: str = "right"
    lose_every: int = 0


def sign(secret: str, body: bytes) -> str:
    """The `X-Signature` header: hexadecimal HMAC-SHA256 over the raw body."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def message(run: Run, answers: Answers) -> bytes:
    """The vendor's body. It names neither the run nor the transformation nor a time."""
    it = run.transformation
    has_file = answers.state.behaviour.webhook_has_transformed_file
    url = answers.file_url("transformed", run)
    body: dict[str, Any] = {
        "event": EVENT,
        "download_url": url if has_file else f"{answers.file_host}/download/{it.source_id}",
        "customer_id": it.customer,
        "customer_email": it.account.customers.get(it.customer) if it.customer else None,
        "template": it.template_handle,
    }
    return json.dumps(body).encode()


async def send(webhook: Webhook, body: bytes) -> list[int]:
    """The statuses that came back, one for each copy."""
    headers = {"Content-Type": "application/json"}
    if webhook.signature != "none":
        secret = webhook.secret if webhook.signature == "right" else webhook.secret + "?"
        headers["X-Signature"] = sign(secret, body)
    statuses = []
    async with aiohttp.ClientSession() as session:
        for _ in range(webhook.copies):
            async with session.post(webhook.url, data=body, headers=headers) as answer:
                statuses.append(answer.status)
    return statuses
