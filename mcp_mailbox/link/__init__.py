"""The edge: this machine's post office when its mail is kept by a hub on another one.

`branch.py` is the counter that fronts ask. `mailing`, `waiting`, `attachments` and `offline` answer for it, which
ask the hub by `asking.py`; `line.py` keeps the stream by which rings come, `forwarding.py` empties the outbox
(`engines/outbox.py`). What both sides say is `fronts/hub/wire.py`'s.
"""
