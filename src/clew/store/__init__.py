"""Long-term memory: items under namespaces, shared by all threads.

`clew.store.base` has the interface; `clew.store.memory`, `clew.store.sqlite` and `clew.store.postgres` keep the items.
"""
