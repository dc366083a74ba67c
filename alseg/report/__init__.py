"""What one looks at after a run: curves, query pictures, the page that shows them."""
