"""Faces in videos: found, placed, linked to tracks, and told apart."""
