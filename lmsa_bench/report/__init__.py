"""What a report shows: tables, figures, files."""
