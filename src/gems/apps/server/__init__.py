"""One HTTP server for every way in: LangServe, the OpenAI-compatible API, images, runs, health, metrics."""
