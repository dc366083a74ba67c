"""Choose what to ask: uncertainty, region statistics, clustering, selection under a budget."""
