"""OpenAI's API over the run service."""
