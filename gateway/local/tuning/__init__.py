"""Measures how this machine runs both encoders fastest, and chooses."""
