"""Exporting models for serving: SavedModels whose tables are frozen."""
