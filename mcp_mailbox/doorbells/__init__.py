"""How each kind of host is rung. Whether to ring is `postoffice/doorbells.py`'s business.

A module a kind: what its hosts want to be told, and what came of it. The hosts of agents are rung by their relays,
which hold what it takes (`ringing.py`); here is what these are told to say.
"""
