"""A run as one self-contained page to look at."""

from gems.reporting.page import report_page

__all__ = ["report_page"]
