"""The prompts: one file each in the folder prompts/, TOML between `+++` lines, then the text with $placeholders."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

import mcp_types as types

from mcp_mailbox.errors import Code, Refusal


@dataclass(frozen=True, slots=True)
class PromptFile:
    """One prompt. An argument that is left out reads as its fallback."""

    name: str
    description: str
    arguments: Mapping[str, Mapping[str, str]]
    text: Template

    def describe(self) -> types.Prompt:
        """Return it as `prompts/list` shows it."""
        return types.Prompt(
            name=self.name,
            description=self.description,
            arguments=[
                types.PromptArgument(name=name, description=about["description"], required="fallback" not in about)
                for name, about in self.arguments.items()
            ],
        )

    def fill(self, given: Mapping[str, str]) -> str:
        """Return the text. Raises Refusal(BAD_ARGUMENT) for a missing or unknown argument."""
        unknown = sorted(set(given) - set(self.arguments))
        missing = [name for name, about in self.arguments.items() if name not in given and "fallback" not in about]
        if unknown or missing:
            names = ", ".join(self.arguments) or "no arguments"
            raise Refusal(
                Code.BAD_ARGUMENT, f"Unknown or missing: {', '.join(unknown + missing)}.", f"{self.name} takes {names}."
            )
        fallbacks = {name: about.get("fallback", "") for name, about in self.arguments.items()}
        return self.text.substitute(fallbacks | dict(given))


@cache
def prompts() -> Mapping[str, PromptFile]:
    """Return all prompts by name."""
    found = (_read(file) for file in _folder().iterdir() if file.name.endswith(".md"))
    return {prompt.name: prompt for prompt in sorted(found, key=lambda prompt: prompt.name)}


def _folder() -> Traversable:
    installed = files("mcp_mailbox").joinpath("prompts")
    # An editable install runs from the checkout, where the folder stands beside the package.
    return installed if installed.is_dir() else Path(__file__).parents[3] / "prompts"


def _read(file: Traversable) -> PromptFile:
    _, head, text = file.read_text(encoding="utf-8").split("+++\n", 2)
    about = tomllib.loads(head)
    return PromptFile(
        file.name.removesuffix(".md"), about["description"], about.get("arguments", {}), Template(text.strip())
    )
