"""The formats of hosts' files, behind one face: what `jsonc` and `toml` have in common. Knows no host."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from mcp_mailbox.setup import jsonc, toml
from mcp_mailbox.setup.jsonc import Dialect
from mcp_mailbox.setup.trouble import Unfit

Path = Sequence[str]
Trace = dict[str, Any]
"""What `take` needs to undo an insertion to the byte, as it is kept in JSON."""


def at(value: Any, path: Path) -> Any:
    """Return what is there, or None."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def has(value: Any, path: Path, element: Any) -> bool:
    """Whether the list at the path has the element."""
    there = at(value, path)
    return isinstance(there, list) and element in there


class Format(Protocol):
    """How a file is read and edited. All raise Unfit for what cannot be."""

    name: str

    def read(self, text: str) -> dict[str, Any]:
        """Return what the text says."""
        ...

    def put(self, text: str, path: Path, value: Any) -> tuple[str, Trace]:
        """Set what is at the path, in the text; what is there already is changed key by key."""
        ...

    def take(self, text: str, path: Path, trace: Trace) -> str:
        """Remove what is at the path, to the byte where nobody wrote since."""
        ...

    def append(self, text: str, path: Path, element: Mapping[str, Any]) -> tuple[str, Trace]:
        """Append to the list at the path."""
        ...

    def drop(self, text: str, path: Path, element: Mapping[str, Any], trace: Trace) -> str:
        """Remove the element from the list at the path."""
        ...

    def shown(self, path: Path, value: Mapping[str, Any]) -> str:
        """Return it as somebody can type it into such a file."""
        ...


class Json:
    """JSON, in the dialect that the host reads."""

    def __init__(self, dialect: Dialect) -> None:
        self.name = "JSON" if dialect is Dialect.JSON else "JSON with comments"
        self._dialect = dialect

    def read(self, text: str) -> dict[str, Any]:
        """Return what the text says."""
        return jsonc.read(text, self._dialect)

    def put(self, text: str, path: Path, value: Any) -> tuple[str, Trace]:
        """Set the object at the path; of one that is there the keys that differ, so that its comments stay."""
        there = at(self.read(text), path)
        if not isinstance(there, dict) or not isinstance(value, Mapping):
            edited, trace = jsonc.put(text, path, value, self._dialect)
            return edited, asdict(trace)
        for key in there:
            if key not in value:
                text = jsonc.take(text, [*path, key], self._dialect)
        for key, each in value.items():
            text, _ = self.put(text, [*path, key], each)
        return text, {}

    def append(self, text: str, path: Path, element: Mapping[str, Any]) -> tuple[str, Trace]:
        """Append to the list at the path, which is made when it is not there."""
        there = at(self.read(text), path)
        if there is not None and not isinstance(there, list):
            raise Unfit(f"What stands at {'.'.join(path)} is no list.", "Mend it, and run this again.")
        if isinstance(there, list):
            edited, trace = jsonc.put(text, [*path, str(len(there))], element, self._dialect)
        else:
            edited, trace = jsonc.put(text, path, [element], self._dialect)
        return edited, {"made": not isinstance(there, list), **asdict(trace)}

    def drop(self, text: str, path: Path, element: Mapping[str, Any], trace: Trace) -> str:
        """Remove the element from the list at the path, and the list if it was made for it alone."""
        there = at(self.read(text), path)
        if not isinstance(there, list) or element not in there:
            return text
        trace = dict(trace)
        made = trace.pop("made", False) and len(there) == 1
        place = path if made else [*path, str(there.index(element))]
        return jsonc.take(text, place, self._dialect, jsonc.Trace(**trace))

    def take(self, text: str, path: Path, trace: Trace) -> str:
        """Remove what is at the path."""
        return jsonc.take(text, path, self._dialect, jsonc.Trace(**trace))

    def shown(self, path: Path, value: Mapping[str, Any]) -> str:
        """Return the object with what is around it."""
        whole: Any = value
        for key in reversed(path):
            whole = {key: whole}
        return json.dumps(whole, indent=2, ensure_ascii=False)


class Toml:
    """TOML."""

    name = "TOML"

    def read(self, text: str) -> dict[str, Any]:
        """Return what the text says."""
        return toml.read(text)

    def put(self, text: str, path: Path, value: Any) -> tuple[str, Trace]:
        """Set the table at the path."""
        edited, trace = toml.put(text, path, value)
        return edited, asdict(trace)

    def take(self, text: str, path: Path, trace: Trace) -> str:
        """Remove the table at the path."""
        return toml.take(text, path, toml.Trace(**trace))

    def append(self, text: str, path: Path, element: Mapping[str, Any]) -> tuple[str, Trace]:
        """Refuse: no host with such a file has needed it."""
        del text
        raise Unfit(f"{dict(element)} belongs into the list {'.'.join(path)}.", "Add it by hand.")

    def drop(self, text: str, path: Path, element: Mapping[str, Any], trace: Trace) -> str:
        """Return the text: `append` cannot have changed it."""
        del path, element, trace
        return text

    def shown(self, path: Path, value: Mapping[str, Any]) -> str:
        """Return the table with its heading."""
        return toml.rendered(path, value).rstrip("\n")
