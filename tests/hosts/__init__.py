"""The proof with the real hosts: Claude Code and Codex exchange mail while a script plays their models.

Run `python -m tests.hosts`. It needs npm. Once the hosts are installed it takes two to three minutes, and
`--scenario doorbell` about thirteen, `timeouts` eleven: they let idle hosts be idle.

    scenarios.py      the story and what must be seen; one more scenario is a function in its list
      teamwork.py     the part of it where agents share work
      stage.py        what every scenario has at hand, and the checks that they share
    setting_up.py     `setup`, and the hosts that have read what it wrote
    packaging.py      the plugins, installed as their users do
    doorbell.py       idle hosts in terminals, and what wakes them
    timeouts.py       hosts that give up on a wait
      terminal.py     a pseudo-terminal for each
      hosts.py        how each real host is configured and started
        environment.py  the only environment that a host or a server ever gets
      endpoint.py     the model's place: an HTTP server on loopback that records all it is sent
        messages_api.py, responses_api.py, chat_api.py, gemini_api.py   the wire formats
        conversation.py                     what a script knows and what it can answer
      plain_client.py an MCP client without a host, for mail from nobody in particular, and to it
    install.py        the hosts from npm, in a directory of this command's own
    processes.py      who is still running, and its end
    report.py         one line a check
"""
