"""What was scored, as tables, plots and pages."""
