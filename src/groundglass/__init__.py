"""groundglass."""
