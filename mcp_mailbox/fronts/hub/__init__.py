"""The store API: what another machine's post office, an edge, asks this one, which is its hub.

The verbs are those of `fronts/verbs.py`, as JSON; rings come by one stream of server-sent events for each edge.
`openapi.py` describes it, docs/hub.md explains it.
"""
