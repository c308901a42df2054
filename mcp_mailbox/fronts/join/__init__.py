"""Where somebody who was invited comes to get in: `POST /join`."""
