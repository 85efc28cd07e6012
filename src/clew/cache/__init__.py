"""Results of nodes and tasks, kept so that the same input need not be worked on twice."""
