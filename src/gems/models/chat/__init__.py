"""Chat models behind one client."""
