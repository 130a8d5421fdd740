"""The bipartite graph of training interactions and its sparse product."""
