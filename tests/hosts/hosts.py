"""How each real host is configured with our server and started for one turn, without asking a human anything.

Knows the hosts' own configuration files and flags. Refuses to know scenarios, and what a request looks like.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tests.hosts import chat_api, environment, gemini_api, messages_api, responses_api
from tests.hosts.processes import Process
from tests.hosts.terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path

    from tests.hosts.endpoint import Dialect

LEASE_SECONDS = 8
"""What a worker who was killed had taken goes to another one after so long; by default it takes ten minutes."""
_PROMPT = "Do what your script says."
_TOKEN = "MCP_MAILBOX_TOKEN"


@dataclass(frozen=True)
class Server:
    """The server under test and where it keeps its mail."""

    command: list[str]
    mail: Path
    url: str | None = None
    """Where it serves HTTP; None: hosts start it on stdio."""
    lease: int = LEASE_SECONDS

    @property
    def environment(self) -> dict[str, str]:
        return {"MCP_MAILBOX_HOME": str(self.mail), "MCP_MAILBOX_LEASE": f"{self.lease}"}

    @property
    def token(self) -> dict[str, str]:
        """What a host's environment holds, so that no file of it need hold the token."""
        return {_TOKEN: (self.mail / "token").read_text().strip()} if self.url else {}


class Host(Protocol):
    """A real agent host; its home outlives its runs, as a user's would."""

    name: str
    dialect: Dialect

    def start(self, endpoint: str, log: Path) -> Process: ...

    def another(self, name: str, mailbox: str) -> Host:
        """One more of its kind, with a home of its own, that acts for that mailbox."""
        ...


class ClaudeCode:
    dialect: Dialect = messages_api

    def __init__(
        self,
        program: Path,
        home: Path,
        server: Server,
        name: str = "claude",
        mailbox: str | None = None,
        limit: float | None = None,
        **more: str,
    ) -> None:
        self.name = name
        self._limit = limit
        """Seconds after which it is told to give up on a call; None: what it does by itself."""
        self._program = program
        self._home = home
        self._server = server
        self._mailbox = mailbox or name
        self._more = more
        """What else its registration sets for our server."""
        self.flags: list[str] = []
        """With what else it is started."""

    def another(self, name: str, mailbox: str) -> ClaudeCode:
        return ClaudeCode(self._program, self._home.with_name(name), self._server, name, mailbox, None, **self._more)

    def start(self, endpoint: str, log: Path) -> Process:
        # --allowedTools instead of skipping all permissions, which the host refuses to root.
        command = [str(self._program), "-p", _PROMPT, "--output-format", "stream-json", "--verbose"]
        command += ["--mcp-config", str(self._registration()), "--strict-mcp-config"]
        command += ["--allowedTools", "mcp__mailbox"]
        variables = environment.for_claude_code(self._home, endpoint) | self._server.token
        if self._server.url:
            variables["MCP_MAILBOX_ADDRESS"] = self._mailbox
        if self._limit is not None:
            variables["MCP_TOOL_TIMEOUT"] = f"{self._limit * 1000:.0f}"
        return Process(command, _project(self._home), variables, log)

    def sit_down(self, endpoint: str, log: Path) -> Terminal:
        """Start it in a terminal, as a person would who has used it before; nobody has said anything to it yet."""
        self._know()
        command = [str(self._program), "--mcp-config", str(self._registration()), "--strict-mcp-config"]
        command += ["--allowedTools", "mcp__mailbox", *self.flags]
        variables = environment.for_claude_code(self._home, endpoint) | environment.TERMINAL | self._server.token
        if self._server.url:
            variables["MCP_MAILBOX_ADDRESS"] = self._mailbox
        return Terminal(command, _project(self._home), variables, log)

    def set_up_hooks(self, *arguments: str) -> str:
        """Have `setup` write the hooks of this server into the host's settings; return what it says."""
        self._know()
        return _set_up(self._server, self._home, "claude", *arguments)

    def _know(self) -> None:
        """Have its settings say that it has been used before, and that all is trusted."""
        project = str(_project(self._home))
        known = {
            "hasCompletedOnboarding": True,
            "lastOnboardingVersion": "99.0.0",
            "theme": "dark",
            "customApiKeyResponses": {"approved": [environment.DUMMY_KEY[-20:]], "rejected": []},
            "projects": {project: {"hasTrustDialogAccepted": True, "hasCompletedProjectOnboarding": True}},
        }
        settings = self._home / ".claude.json"
        if not settings.exists():
            settings.write_text(json.dumps(known), encoding="utf-8")

    def _registration(self) -> Path:
        program, *arguments = self._server.command
        entry: dict[str, object] = {"type": "stdio", "command": program, "args": arguments}
        entry["env"] = self._server.environment | self._more
        if self._server.url:
            limit = 600_000 if self._limit is None else int(self._limit * 1000)
            entry = {"type": "http", "url": self._server.url, "timeout": limit}
            # It speaks 2026-07-28, which has no sessions that could remember whose mailbox was opened.
            entry["headers"] = {
                "Authorization": f"Bearer ${{{_TOKEN}}}",
                "Mailbox-Address": "${MCP_MAILBOX_ADDRESS:-}",
            }
        path = _project(self._home) / ".mcp.json"
        path.write_text(json.dumps({"mcpServers": {"mailbox": entry}}, indent=2), encoding="utf-8")
        return path


class Codex:
    dialect: Dialect = responses_api

    def __init__(
        self,
        program: Path,
        home: Path,
        server: Server,
        name: str = "codex",
        limit: float | None = None,
        **more: str,
    ) -> None:
        self.name = name
        self._limit = limit
        """Seconds after which it is told to give up on a call; None: what it does by itself."""
        self._program = program
        self._home = home
        self._server = server
        self._more = more
        """What else its registration sets for our server."""
        self.flags: list[str] = []
        """With what else it is started."""

    def set_up_hooks(self) -> str:
        """Have `setup` write the hooks of this server; return what it says."""
        return _set_up(self._server, self._home, "codex")

    def another(self, name: str, mailbox: str) -> Codex:  # noqa: ARG002 its session remembers what it has opened
        return Codex(self._program, self._home.with_name(name), self._server, name, None, **self._more)

    def start(self, endpoint: str, log: Path) -> Process:
        self._configure(endpoint)
        command = [str(self._program), "exec", "--skip-git-repo-check"]
        # No sandbox of its own: there is nothing in this home to protect, and its model runs no commands.
        command += ["--dangerously-bypass-approvals-and-sandbox", *self.flags, _PROMPT]
        variables = environment.for_codex(self._home, endpoint) | self._server.token
        return Process(command, _project(self._home), variables, log)

    def sit_down(self, endpoint: str, log: Path) -> Terminal:
        """Start it in a terminal, as a person would who has used it before; nobody has said anything to it yet."""
        self._configure(endpoint)
        command = [str(self._program), "--dangerously-bypass-approvals-and-sandbox", *self.flags]
        variables = environment.for_codex(self._home, endpoint) | environment.TERMINAL
        return Terminal(command, _project(self._home), variables, log)

    def _configure(self, endpoint: str) -> None:
        lines = [
            *scripted_codex(endpoint),
            "[mcp_servers.mailbox]",
            *self._entry(),
            "required = true  # else the first turn may start before our tools are there",
            *([] if self._limit is None else [f"tool_timeout_sec = {self._limit:.0f}"]),
            f"[projects.{_toml(str(_project(self._home)))}]",
            'trust_level = "trusted"',
        ]
        path = self._home / ".codex" / "config.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _entry(self) -> list[str]:
        if self._server.url:
            return [f"url = {_toml(self._server.url)}", f"bearer_token_env_var = {_toml(_TOKEN)}"]
        program, *arguments = self._server.command
        variables = ", ".join(
            f"{key} = {_toml(value)}" for key, value in (self._server.environment | self._more).items()
        )
        return [f"command = {_toml(program)}", f"args = {json.dumps(arguments)}", f"env = {{ {variables} }}"]


def _set_up(server: Server, home: Path, host: str, *arguments: str) -> str:
    """Run `setup --hooks` in the host's home; return what it says."""
    variables = environment.bare(home) | server.environment | server.token
    hooks = [] if "--hooks" in arguments else ["--hooks"]
    command = [*server.command[:-1], "setup", "--host", host, "--yes", *hooks, *arguments]
    done = subprocess.run(
        command,
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
        cwd=_project(home),
    )
    return done.stdout + done.stderr


class OpenCode:
    dialect: Dialect = chat_api

    def __init__(
        self,
        program: Path,
        home: Path,
        server: Server,
        name: str = "opencode",
        port: int | None = None,
        limit: float | None = None,
        **more: str,
    ) -> None:
        self.name = name
        self.home = home
        self._program = program
        self._server = server
        self._port = port
        """On which it is told to serve; None: on none."""
        self._limit = limit
        """Seconds after which it is told to give up on a call; None: what it does by itself."""
        self._more = more
        """What else its registration sets for our server."""

    def start(self, endpoint: str, log: Path) -> Process:
        self._configure(endpoint)
        return Process([str(self._program), "run", _PROMPT], _project(self.home), self._variables(endpoint), log)

    def sit_down(self, endpoint: str, log: Path) -> Terminal:
        """Start it in a terminal, as a person would who has used it before; nobody has said anything to it yet."""
        self._configure(endpoint)
        command = [str(self._program), *(["--port", str(self._port)] if self._port is not None else [])]
        return Terminal(command, _project(self.home), self._variables(endpoint) | environment.TERMINAL, log)

    def _variables(self, endpoint: str) -> dict[str, str]:
        return environment.for_opencode(self.home, endpoint)

    def _configure(self, endpoint: str) -> None:
        options = {"baseURL": f"{endpoint}/v1", "apiKey": "{env:SCRIPTED_MODEL_KEY}"}
        model = {"name": "Scripted", "limit": {"context": 100_000, "output": 1_000}}
        provider = {"npm": "@ai-sdk/openai-compatible", "name": "Scripted", "options": options}
        entry: dict[str, object] = {"type": "local", "command": self._server.command}
        entry["environment"] = self._server.environment | self._more
        if self._limit is not None:
            entry["timeout"] = int(self._limit * 1000)
        settings = {
            "model": "scripted/m",
            "small_model": "scripted/m",
            "autoupdate": False,
            "share": "disabled",
            "provider": {"scripted": provider | {"models": {"m": model}}},
            "mcp": {"mailbox": entry},
        }
        path = self.home / ".config/opencode/opencode.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings, indent=2), encoding="utf-8")


class GeminiCli:
    dialect: Dialect = gemini_api

    def __init__(
        self,
        command: list[str],
        home: Path,
        server: Server,
        name: str = "gemini",
        limit: float | None = None,
        **more: str,
    ) -> None:
        self.name = name
        self._command = command
        self._home = home
        self._server = server
        self._limit = limit
        """Seconds after which it is told to give up on a call; None: what it does by itself."""
        self._more = more
        """What else its registration sets for our server."""

    def start(self, endpoint: str, log: Path) -> Process:
        program, *arguments = self._server.command
        entry: dict[str, object] = {"command": program, "args": arguments, "trust": True}
        entry["env"] = self._server.environment | self._more
        if self._limit is not None:
            entry["timeout"] = int(self._limit * 1000)
        settings = {
            "security": {"auth": {"selectedType": "gemini-api-key"}},
            "general": {"disableAutoUpdate": True, "enableAutoUpdate": False},
            "privacy": {"usageStatisticsEnabled": False},
            "mcpServers": {"mailbox": entry},
        }
        base = self._home / ".gemini"
        base.mkdir(parents=True, exist_ok=True)
        project = _project(self._home)
        (base / "settings.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
        (base / "trustedFolders.json").write_text(json.dumps({str(project): "TRUST_FOLDER"}), encoding="utf-8")
        command = [*self._command, "-m", "gemini-2.5-flash", "--approval-mode", "yolo", "-p", _PROMPT]
        return Process(command, project, environment.for_gemini(self._home, endpoint), log)


def scripted_codex(endpoint: str, *, plugins: bool = False) -> list[str]:
    """The lines of a config.toml by which Codex asks the scripted model, and nothing else.

    With plugins it asks the network for more of them, and is refused.
    """
    return [
        'model = "scripted"',
        'model_provider = "scripted"',
        "check_for_update_on_startup = false",
        "[features]",
        "apps = false",
        f"plugins = {json.dumps(plugins)}",
        "[analytics]",
        "enabled = false",
        "[model_providers.scripted]",
        'name = "scripted"',
        f'base_url = "{endpoint}/v1"',
        'wire_api = "responses"',
        'env_key = "SCRIPTED_MODEL_KEY"',
        "supports_websockets = false",
        # A second try would hide what the first one met.
        "request_max_retries = 0",
        "stream_max_retries = 0",
    ]


def _project(home: Path) -> Path:
    """The directory that the agent works in."""
    path = home / "project"
    path.mkdir(parents=True, exist_ok=True)
    return path


def _toml(text: str) -> str:
    """TOML's basic strings are written as JSON's are."""
    return json.dumps(text)
