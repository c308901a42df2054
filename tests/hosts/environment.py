"""Builds the environment of every process that this command starts for the proof, from nothing.

It refuses to look at the surrounding shell: a variable that slipped through could ring, bill or configure
somebody's real host. So there is no deny-list here, only what is listed below.
"""

from __future__ import annotations

from pathlib import Path

# Deliberately no key at all: the endpoint checks that it is this one that arrives.
DUMMY_KEY = "dummy-key-of-a-scripted-model"

_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"

TERMINAL = {"TERM": "xterm-256color"}
"""What a program gets besides that is run in one."""

_CLAUDE_CODE_QUIET = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_TELEMETRY": "1",
}


def bare(home: Path) -> dict[str, str]:
    """What any process gets: a home and a temporary directory of its own."""
    temporary = home / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    return {
        "PATH": _SYSTEM_PATH,
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "TERM": "dumb",
        "LANG": "C.UTF-8",
    }


def _walled(home: Path, endpoint: str) -> dict[str, str]:
    """Loopback only: whatever else the host wants to reach goes to the endpoint, which refuses and records."""
    return bare(home) | {
        "HTTP_PROXY": endpoint,
        "HTTPS_PROXY": endpoint,
        "NO_PROXY": "127.0.0.1,localhost",
    }


def for_claude_code(home: Path, endpoint: str) -> dict[str, str]:
    model = {"ANTHROPIC_BASE_URL": endpoint, "ANTHROPIC_API_KEY": DUMMY_KEY}
    return _walled(home, endpoint) | model | _CLAUDE_CODE_QUIET


def for_codex(home: Path, endpoint: str) -> dict[str, str]:
    # Its other switches are in config.toml (hosts.py).
    return _walled(home, endpoint) | {"SCRIPTED_MODEL_KEY": DUMMY_KEY}


def for_opencode(home: Path, endpoint: str) -> dict[str, str]:
    # Its other switches are in opencode.json (hosts.py).
    return _walled(home, endpoint) | {"SCRIPTED_MODEL_KEY": DUMMY_KEY, "OPENCODE_DISABLE_AUTOUPDATE": "1"}


def for_gemini(home: Path, endpoint: str) -> dict[str, str]:
    # Its other switches are in settings.json (hosts.py).
    model = {"GEMINI_API_KEY": DUMMY_KEY, "GOOGLE_GEMINI_BASE_URL": endpoint}
    return _walled(home, endpoint) | model
