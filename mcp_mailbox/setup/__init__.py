"""Registering this installation in the hosts on this machine, and taking it out again.

    host.py        what there is to know of a host, and what it is to run
    hosts/         the hosts, a module each: where its files are, how it writes a server
    jsonc.py       edits of JSON with comments, toml.py of TOML: the text outside of the edit stays as it is
    plan.py        what would be done to which file; changes nothing
    transaction.py a planned file written: backup, temporary file, rename, read again, roll back
    undo.py        what was done taken back: the old bytes, or our entry alone when somebody wrote since
    record.py      what was done, and the backups, in the store's home
    handshake.py   the registered server started as the host would start it

It refuses to know mail, the store and MCP beyond a handshake, and prints nothing: `fronts/cli/setup.py` asks and tells.
"""
