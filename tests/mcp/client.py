"""The MCP client of the Python SDK against a gateway: client.py URL. Both halves of the protocol's history.

Started by run.sh, through the test that starts the gateway with the tools of gateway/tests/mcp/tools.yaml.
"""

import asyncio
import json
import sys
import urllib.request

from mcp import Client, MCPError

# Seconds. Far above what is needed, since machines may be busy.
LIMIT = 60


def check(condition, what):
    if not condition:
        raise AssertionError(what)


async def list_and_call(client):
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    check(list(tools) == sorted(tools), "tools are sorted")
    check(tools["echo"].input_schema["required"] == ["text"], "the schema")

    result = await client.call_tool("echo", {"text": "hi"})
    handle = json.loads(result.content[0].text)
    check(not result.is_error and handle["status_url"] == f"/envelopes/{handle['envelope_id']}", handle)
    check(result.structured_content == handle, "the handle is structured, too")

    # The client checks structured content against the tool's output schema.
    result = await client.call_tool("echo_wait", {"n": 2**60, "deep": {"list": [1, None, "x"]}})
    check(result.structured_content == {"n": 2**60, "deep": {"list": [1, None, "x"]}}, result)

    told = []

    async def progress(done, total, message):
        told.append((done, total, message))

    result = await client.call_tool("steps", {}, progress_callback=progress)
    check(result.content[0].text == "all steps done", result)
    numbers = [done for done, _, _ in told]
    check(len(numbers) > 5 and numbers == sorted(set(numbers)) and numbers[-1] == 100, numbers)
    check("half-way" in [message for _, _, message in told], told)

    result = await client.call_tool("broken", {})
    check(result.is_error and "not what I wanted" in result.content[0].text, result)
    result = await client.call_tool("echo", {})
    check(result.is_error and "missing required parameter: text" in result.content[0].text, result)
    try:
        await client.call_tool("missing", {})
    except MCPError as error:
        check(error.code == -32602, error)
    else:
        check(False, "an unknown tool is an error")


async def cancel(client, url):
    """Giving up a call cancels its envelope: a repeat of the same call finds it so."""
    key = {"asya.sh/idempotencyKey": f"cancelled by {client.protocol_version}"}
    working = asyncio.Event()

    async def progress(done, total, message):
        if message == "working":
            working.set()

    call = asyncio.create_task(client.call_tool("stuck", {}, progress_callback=progress, meta=dict(key)))
    await working.wait()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    result = await client.call_tool("stuck", {}, meta=dict(key))
    check(result.is_error and result.content[0].text == "cancelled", result)


async def one(url, mode, version):
    async with Client(url, mode=mode, read_timeout_seconds=LIMIT) as client:
        check(client.protocol_version == version, client.protocol_version)
        check(client.server_info.name == "asya-gateway", client.server_info)
        await list_and_call(client)
        await cancel(client, url)
    print(f"the client of the Python SDK: {version} passed", flush=True)


def bundled(url):
    """As the original's own command line speaks: no Accept, no version header, no notifications/initialized."""

    def post(method, params, session=None):
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        headers = {"Content-Type": "application/json", **({"Mcp-Session-Id": session} if session else {})}
        request = urllib.request.Request(url, json.dumps(message).encode(), headers)
        with urllib.request.urlopen(request, timeout=LIMIT) as response:
            check(response.headers["Content-Type"] == "application/json", response.headers)
            return response.headers.get("Mcp-Session-Id"), json.load(response)["result"]

    session, result = post(
        "initialize",
        {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "asya-mcp", "version": "1"}},
    )
    check(result["protocolVersion"] == "2024-11-05" and session.startswith("mcp-session-"), result)
    _, result = post("tools/list", {}, session)
    check("echo" in [tool["name"] for tool in result["tools"]], result)
    _, result = post("tools/call", {"name": "echo", "arguments": {"text": "hi"}}, session)
    check("envelope_id" in json.loads(result["content"][0]["text"]), result)
    print("the original's way: 2024-11-05 passed", flush=True)


async def main(url):
    await one(url, "auto", "2026-07-28")
    await one(url, "legacy", "2025-11-25")
    bundled(url)


asyncio.run(asyncio.wait_for(main(sys.argv[1]), 5 * LIMIT))
