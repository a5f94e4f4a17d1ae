"""The webhooks' part of the reference, in OpenAPI."""

from __future__ import annotations

from typing import get_args

from actors.contracts.delivery import Status
from actors.http import problem
from actors.http.hook_wishes import EndpointChange, NewEndpoint
from actors.http.openapi import (
    BODY_PROBLEMS,
    KEY_SHOWN,
    Json,
    answer,
    body,
    get,
    header_schemas,
    key_for,
    list_of,
    problems,
    ref,
)
from actors.http.problem import Kind
from actors.replies import Delivery, DeliveryPage, NewWebhook, Webhook, WebhookSecret, WebhooksReport

MODELS = (Webhook, NewWebhook, WebhookSecret, Delivery, DeliveryPage, WebhooksReport, NewEndpoint, EndpointChange)

TAGS = ["webhooks"]
STATUSES = list(get_args(Status))


def paths() -> Json:
    """The paths."""
    id = _named("id", "^[a-z2-7]{16}$")
    of = _named("id", "^([a-z2-7]{16}|jobs)$", "A webhook, or `jobs` for those that jobs have named.")
    delivery = _named("delivery", "^msg_[a-z2-7]{26}$")
    one, missing = "/v1/webhooks/{id}", problem.UNKNOWN_WEBHOOK
    page = [
        of,
        _asked("status", "Only with this status.", {"enum": STATUSES}),
        _asked("limit", "How many at most; 50 if not said.", {"type": "integer", "minimum": 1, "maximum": 200}),
        _asked("cursor", "The `next` of the page before.", {"type": "string", "pattern": "^[0-9]{1,19}$"}),
    ]
    created = answer("It is kept; its secret is not shown again.", ref("NewWebhook"))
    before = answer("It was made before, with the same key.", ref("NewWebhook"))
    headers = {"Location": "Where the webhook is.", "Idempotency-Key": KEY_SHOWN}
    change = _does("change_webhook", "Change a webhook, disable or enable it", "Webhook", missing, parameters=[id])
    return {
        "/v1/webhooks": get("webhooks", "The tenant's webhooks", TAGS, list_of("webhooks", "Webhook"))
        | {
            "post": {
                "operationId": "create_webhook",
                "summary": "Be told at a URL of what becomes of jobs",
                "tags": TAGS,
                "parameters": [key_for("webhook")],
                "requestBody": body("NewEndpoint"),
                "responses": {
                    "201": created | {"headers": header_schemas(headers)},
                    "200": before | {"headers": header_schemas(headers | {"Idempotent-Replay": "true"})},
                    **problems(
                        *BODY_PROBLEMS,
                        problem.BAD_KEY,
                        problem.KEY_REUSED,
                        problem.TOO_MANY_WEBHOOKS,
                        problem.UNAVAILABLE,
                    ),
                },
            }
        },
        "/v1/webhooks/secret": get(
            "webhook_secret", "What signs for webhooks that jobs have named", TAGS, ref("WebhookSecret")
        ),
        "/v1/webhooks/secret/rotate": {
            "post": _does("rotate_webhook_secret", "Sign for those with a new secret too", "WebhookSecret")
        },
        one: get("webhook", "A webhook", TAGS, ref("Webhook"), missing, parameters=[id])
        | {
            "patch": change
            | {
                "requestBody": body("EndpointChange"),
                "responses": change["responses"] | problems(*BODY_PROBLEMS),
            },
            "delete": _does(
                "delete_webhook",
                "Take a webhook away, and say what it was; what is on its way to it ends",
                "Webhook",
                missing,
                parameters=[id],
            ),
        },
        f"{one}/rotate": {
            "post": _does(
                "rotate_webhook",
                "Sign with a new secret, and for a day with the old one too",
                "WebhookSecret",
                missing,
                parameters=[id],
            )
        },
        f"{one}/test": {
            "post": _does(
                "test_webhook",
                "Send `webhook.test` to a webhook",
                "Delivery",
                missing,
                problem.DISABLED,
                problem.QUOTA,
                parameters=[id],
                status="202",
            )
        },
        f"{one}/deliveries": get(
            "deliveries",
            "What was sent to a webhook, those first that changed longest ago",
            TAGS,
            ref("DeliveryPage"),
            missing,
            problem.BAD_PAGE,
            parameters=page,
        ),
        f"{one}/deliveries/{{delivery}}/replay": {
            "post": _does(
                "replay_delivery",
                "Send a delivery again, under the same id",
                "Delivery",
                missing,
                problem.UNKNOWN_DELIVERY,
                problem.DISABLED,
                parameters=[of, delivery],
                status="202",
            )
        },
    }


def _does(
    name: str, summary: str, model: str, *kinds: Kind, parameters: list[Json] | None = None, status: str = "200"
) -> Json:
    return {
        "operationId": name,
        "summary": summary,
        "tags": TAGS,
        "parameters": parameters or [],
        "responses": {status: answer("OK", ref(model)), **problems(*kinds, problem.UNAVAILABLE)},
    }


def _named(name: str, pattern: str, description: str = "") -> Json:
    schema = {"type": "string", "pattern": pattern}
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


def _asked(name: str, description: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "description": description, "schema": schema}
