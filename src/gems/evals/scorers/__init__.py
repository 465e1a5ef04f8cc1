"""Scorers: questions for judges and scores from their answers."""
