"""What we keep: events once, transitions as indices, history windows gathered at sampling."""
