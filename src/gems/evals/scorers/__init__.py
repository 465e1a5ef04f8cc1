"""One scorer per file: what a judge is asked about an image, and what its answers come to."""
