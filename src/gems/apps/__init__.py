"""The ways in; each calls `gems.service` and translates."""
