"""HTTP server: OpenAI-compatible API, LangServe, runs, images, health and metrics."""
