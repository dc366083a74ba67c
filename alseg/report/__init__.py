"""What one looks at after a run: its page, pictures of queries, comparisons of several runs."""
