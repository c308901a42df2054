"""Our server with the `test_*` tools, resources and prompts laid over it that the suite asks for.

Everything that a scenario does not name goes to our own handlers, and all of it over our own transport. What each
fixture has to do is said in the suite's scenarios (`conformance list --server`).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import struct
import warnings
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError

from mcp_mailbox.fronts.mcp.client import Client, Context
from mcp_mailbox.fronts.mcp.server import build_server

Json = dict[str, Any]
Result = types.CallToolResult | types.InputRequiredResult
Fixture = Callable[[Context, types.CallToolRequestParams], Awaitable[Result]]
_MISSING_CAPABILITY = -32021
_OBJECT: Json = {"type": "object"}
_KEY = b"the conformance suite's states"


def _png() -> str:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    pixel = chunk(b"IDAT", zlib.compress(b"\0\xff\0\0"))
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + header + pixel + chunk(b"IEND", b"")).decode()


def _wav() -> str:
    data = b"\x80" * 8
    form = struct.pack("<4sIHHIIHH4sI", b"fmt ", 16, 1, 1, 8000, 8000, 1, 8, b"data", len(data))
    return base64.b64encode(b"RIFF" + struct.pack("<I", 4 + len(form) + len(data)) + b"WAVE" + form + data).decode()


PNG = types.ImageContent(data=_png(), mime_type="image/png")


def _text(text: str) -> types.TextContent:
    return types.TextContent(text=text)


def _embedded(uri: str, kind: str, text: str) -> types.EmbeddedResource:
    return types.EmbeddedResource(resource=types.TextResourceContents(uri=uri, mime_type=kind, text=text))


def _says(*content: types.ContentBlock) -> Fixture:
    async def run(context: Context, params: types.CallToolRequestParams) -> Result:
        del context, params
        return types.CallToolResult(content=list(content))

    return run


# -- tools that tell or ask something while they run


async def _logs(context: Context, params: types.CallToolRequestParams) -> Result:
    del params
    for data in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # 2026-07-28 deprecates what 2025-11-25 asks for
            await context.session.send_log_message("info", data, related_request_id=context.request_id)
        await anyio.sleep(0.05)
    return types.CallToolResult(content=[_text("Logged.")])


async def _progresses(context: Context, params: types.CallToolRequestParams) -> Result:
    del params
    for progress in (0, 50, 100):
        await context.session.report_progress(progress, 100)
        await anyio.sleep(0.05)
    return types.CallToolResult(content=[_text("Done.")])


async def _fails(context: Context, params: types.CallToolRequestParams) -> Result:
    del context, params
    return types.CallToolResult(content=[_text("This tool intentionally returns an error for testing")], is_error=True)


async def _ask(context: Context, request: Any, result: type[Any]) -> Any:
    from mcp.shared.message import ServerMessageMetadata  # noqa: PLC0415

    about = ServerMessageMetadata(related_request_id=context.request_id)
    return await context.session.send_request(request, result, metadata=about)


async def _samples(context: Context, params: types.CallToolRequestParams) -> Result:
    prompt = (params.arguments or {})["prompt"]
    answer = await _ask(context, _sampling(prompt, 100), types.CreateMessageResult)
    return types.CallToolResult(content=[_text(f"LLM response: {answer.content.text}")])


def _elicits(words: str, schema_of: Callable[[Json], tuple[str, Json]]) -> Fixture:
    async def run(context: Context, params: types.CallToolRequestParams) -> Result:
        message, schema = schema_of(params.arguments or {})
        answer = await _ask(context, _elicitation(message, schema), types.ElicitResult)
        told = words.format(action=answer.action, content=json.dumps(answer.content))
        return types.CallToolResult(content=[_text(told)])

    return run


def _sampling(prompt: str, most: int) -> types.CreateMessageRequest:
    message = types.SamplingMessage(role="user", content=_text(prompt))
    return types.CreateMessageRequest(params=types.CreateMessageRequestParams(messages=[message], max_tokens=most))


def _elicitation(message: str, schema: Json) -> types.ElicitRequest:
    return types.ElicitRequest(params=types.ElicitRequestFormParams(message=message, requested_schema=schema))


def _form(**properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties)}


_DEFAULTS = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    },
}
_OPTIONS = ["option1", "option2", "option3"]
_TITLED = [{"const": f"value{number}", "title": f"{name} Option"} for number, name in enumerate(["First", "Second"], 1)]
_ENUMS = {
    "type": "object",
    "properties": {
        "untitledSingle": {"type": "string", "enum": _OPTIONS},
        "titledSingle": {"type": "string", "oneOf": _TITLED},
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": _OPTIONS}},
        "titledMulti": {"type": "array", "items": {"anyOf": _TITLED}},
    },
}


# -- input that a tool needs before it can answer (SEP-2322)

_NAME = _elicitation("What is your name?", _form(name={"type": "string"}))
_ROOTS = types.ListRootsRequest(params=types.RequestParams())


def _sign(state: str) -> str:
    return f"{state}.{hmac.new(_KEY, state.encode(), hashlib.sha256).hexdigest()}"


def _state(signed: str | None) -> str:
    state, _, _ = (signed or "").rpartition(".")
    if not hmac.compare_digest(_sign(state), signed or ""):
        raise MCPError(code=types.INVALID_PARAMS, message="The requestState is not one of ours.")
    return state


def _needs(requests: Json, finish: Callable[[Json], str], state: str | None = None) -> Fixture:
    async def run(context: Context, params: types.CallToolRequestParams) -> Result:
        del context
        answers = params.input_responses or {}
        if any(name not in answers for name in requests):
            return types.InputRequiredResult(input_requests=requests, request_state=_sign(state) if state else None)
        if state is not None:
            _state(params.request_state)
        return types.CallToolResult(content=[_text(finish(answers))])

    return run


def _content(answers: Json, name: str) -> Json:
    answer = answers[name]
    found = answer.get("content") if isinstance(answer, dict) else getattr(answer, "content", None)
    return found if isinstance(found, dict) else {}


async def _two_rounds(context: Context, params: types.CallToolRequestParams) -> Result:
    del context
    answers = params.input_responses or {}
    if "step2" in answers:
        _state(params.request_state)
        return types.CallToolResult(content=[_text("Both steps are done.")])
    if "step1" in answers:
        _state(params.request_state)
        ask = _elicitation("Step 2: What is your favorite color?", _form(color={"type": "string"}))
        return types.InputRequiredResult(input_requests={"step2": ask}, request_state=_sign("round 2"))
    ask = _elicitation("Step 1: What is your name?", _form(name={"type": "string"}))
    return types.InputRequiredResult(input_requests={"step1": ask}, request_state=_sign("round 1"))


async def _only_declared(context: Context, params: types.CallToolRequestParams) -> Result:
    del params
    capabilities = context.session.client_capabilities or types.ClientCapabilities()
    requests: Json = {}
    if capabilities.sampling is not None:
        requests["question"] = _sampling("What is the capital of France?", 100)
    if capabilities.elicitation is not None:
        requests["user_name"] = _NAME
    return types.InputRequiredResult(input_requests=requests)


async def _wants_sampling(context: Context, params: types.CallToolRequestParams) -> Result:
    del params
    wanted = types.ClientCapabilities(sampling=types.SamplingCapability())
    if context.session.check_client_capability(wanted):
        return types.CallToolResult(content=[_text("The client can sample.")])
    data: Json = {"requiredCapabilities": {"sampling": {}}}
    raise MCPError(code=_MISSING_CAPABILITY, message="The client must be able to sample.", data=data)


_CONFIRM = _elicitation("Please confirm", _form(ok={"type": "boolean"}))
_HEADERS = {
    "type": "object",
    "properties": {"region": {"type": "string", "x-mcp-header": "Region"}, "query": {"type": "string"}},
    "required": ["region"],
}
_SCHEMA_2020_12 = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
_MIXED = _embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}')
_USER = _form(
    username={"type": "string", "description": "User's response"},
    email={"type": "string", "description": "User's email address"},
)

TOOLS: dict[str, tuple[Fixture, Json]] = {
    "test_simple_text": (_says(_text("This is a simple text response for testing.")), _OBJECT),
    "test_image_content": (_says(PNG), _OBJECT),
    "test_audio_content": (_says(types.AudioContent(data=_wav(), mime_type="audio/wav")), _OBJECT),
    "test_embedded_resource": (
        _says(_embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")),
        _OBJECT,
    ),
    "test_multiple_content_types": (_says(_text("Multiple content types test:"), PNG, _MIXED), _OBJECT),
    "test_tool_with_logging": (_logs, _OBJECT),
    "test_logging_tool": (_logs, _OBJECT),
    "test_tool_with_progress": (_progresses, _OBJECT),
    "test_error_handling": (_fails, _OBJECT),
    "test_sampling": (_samples, _form(prompt={"type": "string"})),
    "test_elicitation": (
        _elicits("User response: action={action}, content={content}", lambda given: (given["message"], _USER)),
        _form(message={"type": "string"}),
    ),
    "test_elicitation_sep1034_defaults": (
        _elicits("Elicitation completed: action={action}, content={content}", lambda _: ("Defaults", _DEFAULTS)),
        _OBJECT,
    ),
    "test_elicitation_sep1330_enums": (
        _elicits("Elicitation completed: action={action}, content={content}", lambda _: ("Enums", _ENUMS)),
        _OBJECT,
    ),
    "test_streaming_elicitation": (_needs({"user_name": _NAME}, lambda _: "Thank you."), _OBJECT),
    "test_missing_capability": (_wants_sampling, _OBJECT),
    "test_custom_headers": (_says(_text("The headers agree.")), _HEADERS),
    "json_schema_2020_12_tool": (_says(_text("It is valid.")), _SCHEMA_2020_12),
    "test_input_required_result_elicitation": (
        _needs({"user_name": _NAME}, lambda answers: f"Hello, {_content(answers, 'user_name').get('name')}!"),
        _OBJECT,
    ),
    "test_input_required_result_sampling": (
        _needs({"capital_question": _sampling("What is the capital of France?", 100)}, str),
        _OBJECT,
    ),
    "test_input_required_result_list_roots": (_needs({"client_roots": _ROOTS}, str), _OBJECT),
    "test_input_required_result_request_state": (_needs({"confirm": _CONFIRM}, lambda _: "state-ok", "one"), _OBJECT),
    "test_input_required_result_tampered_state": (_needs({"confirm": _CONFIRM}, lambda _: "state-ok", "two"), _OBJECT),
    "test_input_required_result_multiple_inputs": (
        _needs(
            {"user_name": _NAME, "greeting": _sampling("Generate a greeting", 50), "client_roots": _ROOTS}, str, "many"
        ),
        _OBJECT,
    ),
    "test_input_required_result_multi_round": (_two_rounds, _OBJECT),
    "test_input_required_result_capabilities": (_only_declared, _OBJECT),
}


# -- resources and prompts

_WATCHED = "test://watched-resource"


def _resource(uri: str) -> types.TextResourceContents | types.BlobResourceContents | None:
    if uri == "test://static-text":
        text = "This is the content of the static text resource."
        return types.TextResourceContents(uri=uri, mime_type="text/plain", text=text)
    if uri == "test://static-binary":
        return types.BlobResourceContents(uri=uri, mime_type="image/png", blob=_png())
    id_ = uri.removeprefix("test://template/").removesuffix("/data")
    if uri == f"test://template/{id_}/data":
        text = json.dumps({"id": id_, "templateTest": True, "data": f"Data for ID: {id_}"})
        return types.TextResourceContents(uri=uri, mime_type="application/json", text=text)
    return None


def _user(content: types.ContentBlock) -> types.PromptMessage:
    return types.PromptMessage(role="user", content=content)


def _prompt(name: str, given: dict[str, str]) -> list[types.PromptMessage] | None:
    match name:
        case "test_simple_prompt":
            return [_user(_text("This is a simple prompt for testing."))]
        case "test_prompt_with_arguments":
            return [_user(_text(f"Prompt with arguments: arg1='{given['arg1']}', arg2='{given['arg2']}'"))]
        case "test_prompt_with_embedded_resource":
            resource = _embedded(given["resourceUri"], "text/plain", "Embedded resource content for testing.")
            return [_user(resource), _user(_text("Please process the embedded resource above."))]
        case "test_prompt_with_image":
            return [_user(PNG), _user(_text("Please analyze the image above."))]
        case _:
            return None


PROMPTS = {
    "test_simple_prompt": (),
    "test_prompt_with_arguments": ("arg1", "arg2"),
    "test_prompt_with_embedded_resource": ("resourceUri",),
    "test_prompt_with_image": (),
    "test_input_required_result_prompt": (),
}


def fixture_server() -> Server[Client]:
    """Return our server with the fixtures."""
    server = build_server()
    _lay_tools(server)
    _lay_resources(server)
    _lay_prompts(server)
    return server


def _handler(server: Server[Client], method: str) -> Callable[[Context, Any], Awaitable[Any]]:
    entry = server.get_request_handler(method)
    assert entry is not None
    handler: Callable[[Context, Any], Awaitable[Any]] = entry.handler
    return handler


def _lay_tools(server: Server[Client]) -> None:
    ours, our_list = _handler(server, "tools/call"), _handler(server, "tools/list")

    async def call(context: Context, params: types.CallToolRequestParams) -> Any:
        fixture, _ = TOOLS.get(params.name, (ours, None))
        return await fixture(context, params)

    async def listed(context: Context, params: types.PaginatedRequestParams) -> types.ListToolsResult:
        found: types.ListToolsResult = await our_list(context, params)
        tools = [types.Tool(name=name, description=name, input_schema=schema) for name, (_, schema) in TOOLS.items()]
        return types.ListToolsResult(tools=[*found.tools, *tools])

    server.add_request_handler("tools/call", types.CallToolRequestParams, call)
    server.add_request_handler("tools/list", types.PaginatedRequestParams, listed)
    server.get_tool_input_schema = lambda name: TOOLS[name][1] if name in TOOLS else None


def _lay_resources(server: Server[Client]) -> None:
    ours, our_list, our_templates, our_subscribe = (
        _handler(server, f"resources/{verb}") for verb in ("read", "list", "templates/list", "subscribe")
    )

    async def read(context: Context, params: types.ReadResourceRequestParams) -> Any:
        found = _resource(str(params.uri))
        return types.ReadResourceResult(contents=[found]) if found else await ours(context, params)

    async def listed(context: Context, params: types.PaginatedRequestParams) -> types.ListResourcesResult:
        found: types.ListResourcesResult = await our_list(context, params)
        fixtures = [
            types.Resource(uri=uri, name=uri, mime_type=kind)
            for uri, kind in (("test://static-text", "text/plain"), ("test://static-binary", "image/png"))
        ]
        return types.ListResourcesResult(resources=[*found.resources, *fixtures])

    async def templates(context: Context, params: types.PaginatedRequestParams) -> types.ListResourceTemplatesResult:
        found: types.ListResourceTemplatesResult = await our_templates(context, params)
        fixture = types.ResourceTemplate(uri_template="test://template/{id}/data", name="test")
        return types.ListResourceTemplatesResult(resource_templates=[*found.resource_templates, fixture])

    async def subscribe(context: Context, params: types.SubscribeRequestParams) -> Any:
        return types.EmptyResult() if str(params.uri) == _WATCHED else await our_subscribe(context, params)

    server.add_request_handler("resources/read", types.ReadResourceRequestParams, read)
    server.add_request_handler("resources/list", types.PaginatedRequestParams, listed)
    server.add_request_handler("resources/templates/list", types.PaginatedRequestParams, templates)
    server.add_request_handler("resources/subscribe", types.SubscribeRequestParams, subscribe)


def _lay_prompts(server: Server[Client]) -> None:
    ours, our_list = _handler(server, "prompts/get"), _handler(server, "prompts/list")

    async def get(context: Context, params: types.GetPromptRequestParams) -> Any:
        if params.name == "test_input_required_result_prompt":
            answers = params.input_responses or {}
            if "user_context" not in answers:
                ask = _elicitation("What context should the prompt use?", _form(context={"type": "string"}))
                return types.InputRequiredResult(input_requests={"user_context": ask})
            told = _content(answers, "user_context").get("context")
            return types.GetPromptResult(messages=[_user(_text(f"Context: {told}"))])
        found = _prompt(params.name, params.arguments or {})
        return types.GetPromptResult(messages=found) if found else await ours(context, params)

    async def listed(context: Context, params: types.PaginatedRequestParams) -> types.ListPromptsResult:
        found: types.ListPromptsResult = await our_list(context, params)
        fixtures = [
            types.Prompt(
                name=name,
                description=name,
                arguments=[types.PromptArgument(name=each, required=True) for each in arguments],
            )
            for name, arguments in PROMPTS.items()
        ]
        return types.ListPromptsResult(prompts=[*found.prompts, *fixtures])

    server.add_request_handler("prompts/get", types.GetPromptRequestParams, get)
    server.add_request_handler("prompts/list", types.PaginatedRequestParams, listed)
