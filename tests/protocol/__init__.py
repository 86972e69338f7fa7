"""An explicit-state check of the succession's protocol: journal, terms, epochs, proofs, promote orders, boot gates."""
