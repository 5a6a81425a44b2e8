"""Bodies of the gateway's API, for its OpenAPI document."""

from typing import Any

from fastapi import FastAPI

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
PROBLEM = "application/problem+json"
SECURITY: Schema = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token of DYEWORKS_WEBHOOK_TOKEN, or an API key with the scope upload.",
    },
    "password": {"type": "http", "scheme": "basic", "description": "The same as the password; any user."},
    "signature": {
        "type": "apiKey",
        "in": "header",
        "name": "webhook-signature",
        "description": "Standard Webhooks: HMAC-SHA256 of `<webhook-id>.<webhook-timestamp>.<body>`.",
    },
}
REASONS = {
    400: "The request is malformed.",
    401: "No valid credentials or signature.",
    403: "What was sent is not allowed.",
    404: "There is no such thing.",
    408: "The body is too slow.",
    409: "A file and a folder would have one name.",
    413: "The body is too large.",
    422: "The body cannot be used; it is refused again if it is sent again.",
    503: "Send it again later.",
    507: "The disk is full; send it again later.",
}


def _object(required: str = "", **properties: Schema) -> Schema:
    return {"type": "object", "required": required.split(), "properties": properties}


def _listed(items: Schema, **limits: int) -> Schema:
    return {"type": "array", "items": items} | limits


S3_OBJECT = _object("key", key=TEXT, size={"type": ["integer", "string"]}, eTag=TEXT, versionId=TEXT, sequencer=TEXT)
S3_RECORD = _object(
    "s3",
    eventSource={"enum": ["aws:s3", "minio:s3", "ceph:s3"]},
    eventName=TEXT,
    eventTime=TEXT,
    s3=_object("bucket object", bucket=_object("name", name=TEXT), object=S3_OBJECT),
)
EVENT_OBJECT = _object("key", key=TEXT, size={"type": "integer"}, etag=TEXT, sequencer=TEXT) | {
    "description": "With `version-id` in a bucket with versions."
}
NOTIFICATION: Schema = {
    "anyOf": [
        _object("Records", Records=_listed(S3_RECORD)) | {"title": "AWS S3, MinIO, Ceph"},
        _object("Event", Event={"const": "s3:TestEvent"}) | {"title": "A test of AWS S3"},
        _object(
            "detail-type detail",
            **{"detail-type": TEXT, "time": TEXT},
            detail=_object("bucket object", bucket=_object("name", name=TEXT), object=EVENT_OBJECT),
        )
        | {"title": "EventBridge"},
        _object(
            "event_type key",
            event_type={"enum": ["create", "update", "delete", "rename"]},
            key=TEXT,
            message=_object(new_entry=_object(name=TEXT, attributes=_object(), extended=_object())),
        )
        | {"title": "SeaweedFS' filer"},
        _object(
            "Type TopicArn Message MessageId Timestamp SignatureVersion Signature SigningCertURL",
            Type={"enum": ["Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation"]},
            SignatureVersion={"enum": ["1", "2"]},
            **dict.fromkeys(("TopicArn", "Message", "MessageId", "Subject", "Timestamp", "Signature"), TEXT),
            **dict.fromkeys(("SigningCertURL", "SubscribeURL", "Token"), TEXT),
        )
        | {"title": "SNS, around one of the others"},
    ]
}
UPLOADED = _object(
    "type data",
    type={"type": "string", "description": "`upload.created`; others are ignored."},
    data=_object("dataset keys", dataset=TEXT, keys=_listed(TEXT, minItems=1, maxItems=10_000)),
)


def body(schema: Schema, *security: str, parameters: tuple[str, ...] = ()) -> Schema:
    """What a route with a JSON body adds to its operation: the body, the credentials, headers."""
    headers = [{"name": name, "in": "header", "required": True, "schema": TEXT} for name in parameters]
    content = {"application/json": {"schema": schema}}
    return {
        "requestBody": {"required": True, "content": content},
        "security": [{name: []} for name in security],
    } | ({"parameters": headers} if headers else {})


def refusals(*statuses: int) -> dict[int | str, Schema]:
    """The error responses of a route."""
    content = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": REASONS[status], "content": content} for status in statuses}


def complete(app: FastAPI) -> None:
    """Add what all routes refer to; to be called when the application has all of them."""
    document = app.openapi()
    components = document.setdefault("components", {})
    components["securitySchemes"] = SECURITY
    optional = {"type": ["string", "null"]}
    error = _object("message type", message=TEXT, type=TEXT, param=optional, code=optional)
    components.setdefault("schemas", {})["Problem"] = _object(
        "type title status detail error",
        **dict.fromkeys(("type", "title", "detail"), TEXT),
        status={"type": "integer"},
        error=error,
    )
