"""One view to read mail from: the SQLite schema, the appliers that write it and the queries that read it.

All engines share it, so that lists, threads and counts behave alike by construction. Nothing here checks, begins or
commits: an engine decides, then applies.
"""
