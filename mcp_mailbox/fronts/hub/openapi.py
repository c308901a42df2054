"""The description of the store API, made of the models by which it is read (OpenAPI 3.1)."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from mcp_mailbox import __version__
from mcp_mailbox.fronts.hub import wire
from mcp_mailbox.fronts.verbs import VERBS

Json = dict[str, Any]
_JSON = "application/json"
_ANSWERS: Json = {
    _JSON: {"schema": {"type": "object"}},
    wire.NDJSON: {"schema": {"type": "string"}},
    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
}
"""Of events OpenAPI 3.1 has nothing to say: they are no single value."""
_REFS = "#/components/schemas/{model}"


@cache
def document() -> Json:
    """Return it."""
    bodies: list[type[BaseModel]] = [wire.Asked, wire.Sent, wire.Notes, wire.Opening]
    bodies += [verb.arguments for verb in VERBS.values()]
    refs, schemas = models_json_schema([(model, "validation") for model in bodies], ref_template=_REFS)
    found = {model: ref for (model, _), ref in refs.items()}
    problem = {
        "type": "object",
        "properties": {name: {"type": "string"} for name in ("error", "message", "hint")},
        "required": ["error"],
    }
    paths = {
        f"{wire.PATH}verbs/{name}": _operation(
            name, f"The tool {name}, as JSON.", _asked(found[wire.Asked], found[verb.arguments], verb.arguments), _JSON
        )
        for name, verb in VERBS.items()
    }
    paths[f"{wire.PATH}sends"] = _operation(
        "sends", f"A batch of at most {wire.SENDS_MOST} sends, a line each.", found[wire.Sent], wire.NDJSON, wire.NDJSON
    )
    paths[f"{wire.PATH}notes"] = _operation("notes", "What is told and not asked.", found[wire.Notes], _JSON, None)
    paths[f"{wire.PATH}stream"] = _operation(
        "stream", "Events: hello, ring, bell, beat.", found[wire.Opening], _JSON, "text/event-stream"
    )
    paths[f"{wire.PATH}attachment"] = _operation(
        "attachment", "What is attached to a message.", found[wire.Asked], _JSON, "application/octet-stream"
    )
    piece = {"type": "string", "format": "binary", "maxLength": wire.PIECE_BYTES}
    paths[f"{wire.PATH}files"] = _operation(
        "files", "A piece of a file that a send will name.", piece, "application/octet-stream", None
    )
    paths[f"{wire.PATH}files"]["post"]["parameters"] += [
        {"name": name, "in": "header", "required": True, "schema": {"type": "string", "pattern": f"^{pattern}$"}}
        for name, pattern in ((wire.FILE_HEADER, wire.FILE_PATTERN), (wire.OFFSET_HEADER, r"\d{1,12}"))
    ]
    return {
        "openapi": "3.1.0",
        "info": {"title": "mcp-mailbox store API", "version": __version__},
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas["$defs"] | {"Problem": problem},
        },
    }


def _asked(asked: Json, given: Json, arguments: type[BaseModel]) -> Json:
    needed = any(field.is_required() for field in arguments.model_fields.values())
    of_verb: Json = {"type": "object", "properties": {"given": given}}
    return {"allOf": [asked, of_verb | ({"required": ["given"]} if needed else {})]}


def _operation(name: str, summary: str, taken: Json, kind: str, given: str | None = _JSON) -> Json:
    good: Json = {"description": "Done."}
    if given is not None:
        good["content"] = {given: _ANSWERS.get(given, {})}
    refused = {"description": "Refused.", "content": {_JSON: {"schema": {"$ref": _REFS.format(model="Problem")}}}}
    return {
        "post": {
            "operationId": name,
            "summary": summary,
            "parameters": [
                {
                    "name": wire.EDGE_HEADER,
                    "in": "header",
                    "required": True,
                    "schema": {"type": "string", "pattern": f"^{wire.EDGE_PATTERN}$"},
                }
            ],
            "requestBody": {"required": True, "content": {kind: {"schema": taken}}},
            "responses": {"204" if given is None else "200": good, "4XX": refused, "5XX": refused},
        }
    }
