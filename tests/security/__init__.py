"""One module per threat of docs/security.md, on real parts."""
