"""What a reply says, as lines and tables. Pure: a reply in, a page out."""
