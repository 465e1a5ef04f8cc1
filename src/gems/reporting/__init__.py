"""HTML reports of runs."""

from gems.reporting.page import report_page

__all__ = ["report_page"]
