"""Threads as people know them: whose each is, what it is called, when it was last used.

The table is in the saver's database and shares its key with the checkpoints: a thread's id *is* the `thread_id` of a
graph's config.
"""

from clew.threads._threads import EVERYONE, Page, Status, Thread, Threads

__all__ = ("EVERYONE", "Page", "Status", "Thread", "Threads")
