"""What the tools cost a model before it has used one of them: tokens of o200k."""

from __future__ import annotations

import json

import pytest

from mcp_mailbox.fronts.mcp import tools

# The tokenizer reads its table, while it is imported, by a function that Python 3.11 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:open_binary is deprecated")


def cost(text: str) -> int:
    import bpe_openai  # noqa: PLC0415 - see above

    return len(bpe_openai.get_encoding("o200k_base").encode(text))


def tokens(name: str) -> int:
    """Count a tool as a model pays for it."""
    tool = tools.TOOLS[name].describe(name)
    schema = json.dumps(tool.input_schema, ensure_ascii=False, separators=(",", ":"))
    return cost(f"{tool.name}\n{tool.description}\n{schema}")


@pytest.mark.parametrize("name", tools.TOOLS)
def test_no_tool_costs_more_than_250_tokens(name: str) -> None:
    assert tokens(name) <= 250


def test_finding_somebody_costs_at_most_140_tokens() -> None:
    assert tokens("find_mailboxes") <= 140


def test_subscribing_costs_at_most_105_tokens() -> None:
    assert tokens("subscribe") <= 105


def test_all_tools_together_cost_at_most_1500_tokens() -> None:
    assert sum(tokens(name) for name in tools.TOOLS) <= 1500


def test_there_are_at_most_ten_tools() -> None:
    assert len(tools.TOOLS) <= 10


def test_the_instructions_cost_at_most_300_tokens_and_fit_in_what_hosts_show() -> None:
    assert cost(tools.INSTRUCTIONS) <= 300
    assert len(tools.INSTRUCTIONS.encode()) <= 2048
