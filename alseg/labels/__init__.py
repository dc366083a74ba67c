"""What is known: units, questions and answers, who answers, what it costs."""
