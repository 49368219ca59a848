"""The door for HTTP: an OpenAI-compatible API, the services as JSON, and what else is mounted beside them."""
