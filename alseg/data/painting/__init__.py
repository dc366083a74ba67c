"""Paint small landscapes with exact labels."""
