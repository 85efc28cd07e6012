"""The log in PostgreSQL: one fenced statement per superstep, and the connections, retries and schema around it.

`direct` says a run's operations in one statement each, `wire` sends several of them in one flush, `tables` decides
what travels together and what happens when it fails; everything else runs the rules of `clew.storage` unchanged.
"""
