"""What happens in a node, as it happens: the kinds of events, who listens to them, and how the core's are noticed."""
