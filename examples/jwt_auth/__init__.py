"""A service whose users come with a JWT. See README.md."""
