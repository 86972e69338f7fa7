"""Every alert as data: what it is called, how grave it is, what it says, and what a person does about it."""
