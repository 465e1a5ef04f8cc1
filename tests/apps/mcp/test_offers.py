"""Tools take the names of generators and judges on offer."""

from __future__ import annotations

from mcp import Client

from tests.support.mcp_clients import own_process, text_of
from tests.support.offers import ASKED, as_environment, kinds
from tests.support.stub import StubServer


async def test_tools_choose_models(stub: StubServer) -> None:
    with StubServer() as far:
        async with Client(own_process(**as_environment(stub, far))) as client:
            tools = {tool.name: tool.input_schema["properties"] for tool in (await client.list_tools()).tools}
            for name in ("generate_image", "edit_image", "repair_image"):
                assert {"generator", "judge"} <= tools[name].keys()
            wrong = await client.call_tool("generate_image", {**ASKED, "judge": "nobody"})
            assert wrong.is_error
            assert "'nobody' is not on offer. On offer are 'kind', 'strict'" in text_of(wrong)
            drawn = await client.call_tool("generate_image", {**ASKED, "generator": "near", "judge": "strict"})
            assert not drawn.is_error, text_of(drawn)
            assert (kinds(stub), kinds(far)) == ({"generate"}, {"chat"})
            assert drawn.structured_content is not None
            given = {"path": drawn.structured_content["path"], "prompt": "four red hearts", "generator": "far.2"}
            mended = await client.call_tool("repair_image", {**given, "max_rounds": 2, "skills": "none"})
            assert not mended.is_error, text_of(mended)
            assert kinds(far) == {"chat", "images"}
            assert len(stub.calls("generate")) == 1
