"""Chat models: one client, replies, capabilities of endpoints."""
