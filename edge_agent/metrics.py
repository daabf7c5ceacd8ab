"""Every metric's name, unit and buckets on one page."""
