"""The edge: this machine's post office when its mail is kept by a hub on another one.

`branch.py` is the counter that fronts ask, `hub.py` speaks to the hub, `line.py` keeps the stream by which rings come,
`outbox.py` what is on its way there and what was fetched, on disk. What both sides say is `fronts/hub/wire.py`'s.
"""
