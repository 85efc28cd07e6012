"""Long-term memory: items under namespaces, shared by all threads.

`clew.store.base` has the interface, `clew.store.memory` and `clew.store.sqlite` keep the items.
"""
