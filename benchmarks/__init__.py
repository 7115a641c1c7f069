"""One script a claim: ours and its peers measured in the same run."""
