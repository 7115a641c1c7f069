"""What a store holds, for people: text, statistics, pages."""
