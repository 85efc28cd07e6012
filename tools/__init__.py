"""What the project's tasks need beside clew itself."""
